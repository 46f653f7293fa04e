"""The completeness of a day: what should have been recorded, what became of it, and what nobody has
explained. Pure.

It judges recordings as `/v1` shows them, so it says the same of live ones and of those that only
the catalogue knows. Each figure is a set of recordings; calls stand beside them where a call should
have a recording and has none. docs/api.md says what each figure means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from worker import wire
from worker.calls.call import RUNNING, Call, Phase, StopState
from worker.calls.check_words import failed_check
from worker.calls.figure_words import NOT_VERIFIED
from worker.calls.restriction import NO_CONSENT
from worker.calls.rules import Expect, Mode, Rules, Terms
from worker.calls.timing import ITSELF, LONGEST_CALL

View = Mapping[str, Any]
FIGURES = (
    *("expected", "archived", "verified", "under_way", "missing", "unexpected", "over_long"),
    *("too_short", "unproven", "without_consent", "restricted", "erased", "deleted_at_provider"),
    *("cut_at_default_limit", "with_gaps", "unexplained"),
)
# What an operator has to look into: nothing of ours or of the rules accounts for it.
_UNEXPLAINED = (
    *("missing", "unexpected", "over_long", "too_short", "unproven", "cut_at_default_limit"),
)
# Of a closed day, what is counted for `/metrics`.
GAPS = (*_UNEXPLAINED, "without_consent")
# The provider's own limit where nobody named one (documented), and how exactly it cuts.
_DEFAULT_LIMIT, _CUT_WITHIN = timedelta(seconds=60), timedelta(seconds=1)
_SHORTEST = timedelta(seconds=1)
_OVERLAP = timedelta(seconds=1)  # of one recording that takes over from another
_ENDED_EARLY = timedelta(seconds=10)  # before its call, by itself


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredCall:
    """A call that somebody answered, as the provider's call records (CDRs) tell of it. `bridge`:
    its other leg.
    """

    account: str
    call_uuid: str
    ended_at: datetime
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    bridge: str | None = None


@dataclass(slots=True)
class Figure:
    """Recordings, and calls that should have one and have none; both by id."""

    recordings: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        return len(self.recordings) + len(self.calls)

    def view(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "recordings": sorted(self.recordings),
            "calls": sorted(self.calls),
        }


@dataclass(slots=True)
class Row:
    """The figures of one rule on one account. `asked`: recordings that needed consent and whose
    consent is decided. `saved_per_month`: by copies that are gone at the provider, by its rates.
    `why`: of each recording and call that is unexplained, the figures that make it so.
    """

    account: str
    rule: str
    figures: dict[str, Figure] = field(default_factory=lambda: {f: Figure() for f in FIGURES})
    asked: set[str] = field(default_factory=set)
    saved_per_month: float = 0.0
    why: dict[str, list[str]] = field(default_factory=dict)

    @property
    def consent_capture_rate(self) -> float | None:
        """The share of the recordings which needed consent that have it; None: none needed it."""
        if not self.asked:
            return None
        without = len(self.figures["without_consent"].recordings & self.asked)
        return round(1 - without / len(self.asked), 4)

    def view(self) -> dict[str, Any]:
        figures = {name: figure.view() for name, figure in self.figures.items()}
        figures["unexplained"]["why"] = dict(sorted(self.why.items()))
        return {
            "account": self.account,
            "rule": self.rule,
            **figures,
            "consent_capture_rate": self.consent_capture_rate,
            "saved_per_month": round(self.saved_per_month, 6),
        }

    def add(self, given: _Given) -> None:
        """Count a recording in each figure that it is in."""
        recording_id, names = given.view["recording_id"], _names(given)
        for name in names:
            self.figures[name].recordings.add(recording_id)
        if why := _why_unexplained(given, names):
            self.figures["unexplained"].recordings.add(recording_id)
            self.why[recording_id] = why


def rows_of(
    views: Sequence[View],
    calls: Iterable[AnsweredCall],
    rules: Rules,
    now: datetime,
    *,
    recorded: frozenset[str] = frozenset(),
) -> list[Row]:
    """The rows of a day, by account and rule. `views`: its recordings. `calls`: the answered calls
    of the same day. `recorded`: those of them that have a recording on another day.
    """
    found = dict[tuple[str, str], Row]()
    answered = {(call.account, call.call_uuid): call for call in calls}
    for together in _by_call(views).values():
        for view in together:
            row = _row_in(found, view["account"], _rule_of(view, rules))
            call = answered.get((view["account"], view["call_uuid"]))
            terms = rules.terms_of(row.rule)
            row.add(_Given(view, together, call, terms, now))
            row.saved_per_month += view.get("saved_per_month") or 0.0
            if _is_asked(view, terms):
                row.asked.add(view["recording_id"])
    with_recording = {view["call_uuid"] for view in views} | recorded
    for call in answered.values():
        rule, terms = rules.choose(_as_call(call))
        if terms.expects is Expect.EVERY and not {call.call_uuid, call.bridge} & with_recording:
            row = _row_in(found, call.account, rule)
            for name in ("expected", "missing", "unexplained"):
                row.figures[name].calls.add(call.call_uuid)
            row.why[call.call_uuid] = ["missing"]
    return [found[name] for name in sorted(found)]


def _row_in(found: dict[tuple[str, str], Row], account: str, rule: str) -> Row:
    row = found.get((account, rule))
    if row is None:
        row = found[account, rule] = Row(account=account, rule=rule)
    return row


def totals(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures of all rows together, as counts."""
    whole = Row(account="", rule="")
    for row in rows:
        whole.asked |= row.asked
        whole.saved_per_month += row.saved_per_month
        for name, figure in row.figures.items():
            whole.figures[name].recordings |= figure.recordings
            whole.figures[name].calls |= figure.calls
    counts = {name: figure.count for name, figure in whole.figures.items()}
    saved = round(whole.saved_per_month, 6)
    rate = whole.consent_capture_rate
    return {**counts, "consent_capture_rate": rate, "saved_per_month": saved}


# One recording
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A recording, all of its call, what the provider's records say of the call, its terms."""

    view: View
    together: Sequence[View]
    call: AnsweredCall | None
    terms: Terms
    now: datetime

    def at(self, name: str) -> datetime | None:
        return wire.parse_rfc3339(self.view[name])

    @property
    def lasted(self) -> timedelta | None:
        """How long it lasted; None while it runs, or where nobody knows."""
        if self.view["duration_ms"] is not None:
            return timedelta(milliseconds=self.view["duration_ms"])
        began, ended = self.at("started_at"), self.at("ended_at")
        return ended - began if began and ended else None

    @property
    def ended_by_itself(self) -> bool:
        """Whether neither a stop of ours nor the end of its call ended it, as far as is known."""
        ended_at, stop = self.at("ended_at"), self.view["stop"]
        ends_with_call = bool(
            self.call and ended_at and abs(self.call.ended_at - ended_at) <= ITSELF
        )
        return (
            self.view["phase"] not in RUNNING
            and stop["state"] in {StopState.NONE, StopState.ALREADY_OVER}
            and stop["trigger"] != "hangup"
            and not ends_with_call
        )


def _names(given: _Given) -> set[str]:
    """The figures that count a recording, all but `unexplained`."""
    view = given.view
    names = set(_standing(view))
    tests = {
        "unexpected": _is_unexpected,
        "too_short": _is_too_short,
        "unproven": _is_unproven,
        "cut_at_default_limit": _is_cut,
    }
    names |= {name for name, test in tests.items() if test(given)}
    if is_over_long(view, given.terms, given.now):
        names.add("over_long")
    if "unexpected" not in names:
        names.add("expected")
    if NO_CONSENT in view["restricted_by"]:
        names.add("without_consent")
    if view["restricted"]:
        names.add("restricted")
    if view["segment_of"]:
        names.add("with_gaps")
    if view.get("deleted_at_provider"):
        names.add("deleted_at_provider")
    return names


def _why_unexplained(given: _Given, names: set[str]) -> list[str]:
    """What makes it unexplained; empty where it is explained."""
    explained = {"over_long"} if is_only_observed(given.view, given.terms) else set[str]()
    why = [name for name in _UNEXPLAINED if name in names - explained]
    return [*why, NOT_VERIFIED] if "archived" in names and "verified" not in names else why


def _standing(view: View) -> Iterator[str]:
    """How far it came."""
    if view["phase"] == Phase.ARCHIVED.value:
        yield "archived"
        if view["problem"] is None:
            yield "verified"
    elif view["phase"] == Phase.ERASED.value:
        yield "erased"
    elif view["phase"] == Phase.ABANDONED.value:
        yield "missing"
    else:
        yield "under_way"


def is_only_observed(view: View, terms: Terms) -> bool:
    """Whether its rule only observes, so stops nothing, and nobody else asked for a stop: then the
    rule accounts for a recording that is over-long.
    """
    return terms.mode is Mode.OBSERVE and not view["stop"]["attempts"]


def _is_unexpected(given: _Given) -> bool:
    """Whether the rule wants none, or wants one and another that began before it runs still."""
    if given.terms.expects is Expect.NONE:
        return True
    began = given.at("started_at")
    if given.terms.expects is not Expect.EVERY or began is None:
        return False
    return any(_ran_before(given.view, began, other) for other in given.together)


def _ran_before(view: View, began: datetime, other: View) -> bool:
    """Whether `other` began before the recording, which began at `began`, and ran on beside it. One
    whose end nobody knows does so only while it runs.
    """
    start, end = wire.parse_rfc3339(other["started_at"]), wire.parse_rfc3339(other["ended_at"])
    if start is None or (start, other["recording_id"]) >= (began, view["recording_id"]):
        return False
    return end > began + _OVERLAP if end else other["phase"] in RUNNING


def is_over_long(view: View, terms: Terms, now: datetime) -> bool:
    """Whether a recording went on after the instant at which it was to end by more than its
    `tail_limit`, or where the rule has none, by more than `confirm_within`. A deadline that passed
    before somebody else's stop counts, also where we heard of the recording too late for it.
    """
    stop, ended_at = view["stop"], wire.parse_rfc3339(view["ended_at"])
    overdue_since = wire.parse_rfc3339(stop.get("overdue_since"))
    due_at = overdue_since or wire.parse_rfc3339(stop["due_at"])
    if due_at is None:
        return False
    if ended_at is None and view["phase"] in RUNNING:
        ended_at = now
    if stop["tail_ms"] is not None and overdue_since is None:
        tail = timedelta(milliseconds=stop["tail_ms"])
    elif ended_at is not None:
        tail = ended_at - due_at
    else:
        return False
    return tail > (terms.tail_limit or terms.confirm_within)


def _is_too_short(given: _Given) -> bool:
    """Whether it holds next to nothing though no stop of ours ended it, or less than the provider
    announced; or ended by itself well before the call that the rule wants recorded.
    """
    lasted, ended_at = given.lasted, given.at("ended_at")
    if given.view["phase"] in RUNNING:
        return False
    if failed_check(given.view["problem"]) == "duration":
        return True
    if lasted is not None and lasted < _SHORTEST:
        return bool(given.view["stop"]["state"] != StopState.CONFIRMED)
    if given.terms.expects is not Expect.EVERY or given.call is None or ended_at is None:
        return False
    last = max(
        (e for v in given.together if (e := wire.parse_rfc3339(v["ended_at"]))), default=ended_at
    )
    runs_on = any(v["phase"] in RUNNING for v in given.together) or last > ended_at
    early = given.call.ended_at - ended_at > _ENDED_EARLY
    return early and not runs_on and given.ended_by_itself and not _is_cut(given)


def _is_unproven(given: _Given) -> bool:
    """Whether its stop was never proven, or it counts as running for longer than any call can."""
    began = given.at("started_at")
    stop = given.view["stop"]
    if stop["state"] in {StopState.UNKNOWN, StopState.FAILED}:
        return True
    too_long_ago = began is not None and given.now - began > LONGEST_CALL
    return given.view["phase"] in RUNNING and too_long_ago


def _is_cut(given: _Given) -> bool:
    """Whether it ended by itself at the limit that the provider sets where nobody names one."""
    lasted, ended_at = given.lasted, given.at("ended_at")
    due_at = wire.parse_rfc3339(given.view["stop"]["due_at"])
    if lasted is None or not given.ended_by_itself:
        return False
    is_deadline = bool(due_at and ended_at and abs(ended_at - due_at) <= ITSELF)
    return abs(lasted - _DEFAULT_LIMIT) <= _CUT_WITHIN and not is_deadline


def _is_asked(view: View, terms: Terms) -> bool:
    """Whether it needed consent, and it is decided whether it has it."""
    consent = view["consent"]
    given = bool(consent and not consent["withdrawn"])
    return NO_CONSENT in view["restricted_by"] or (terms.consent_required and given)


# Whose it is
# --------------------------------------------------------------------------------------------------


def _by_call(views: Iterable[View]) -> dict[tuple[str, str], list[View]]:
    found = dict[tuple[str, str], list[View]]()
    for view in views:
        found.setdefault((view["account"], view["call_uuid"]), []).append(view)
    return found


def _rule_of(view: View, rules: Rules) -> str:
    """The rule that decided; where nothing says so, the one that matches now."""
    if view["stop"]["rule"]:
        return str(view["stop"]["rule"])
    call = Call(
        account=view["account"],
        call_uuid=view["call_uuid"],
        from_number=wire.digits(view["from"]),
        to_number=wire.digits(view["to"]),
        direction=view["direction"],
        labels=dict(view["labels"]),
    )
    return rules.choose(call)[0]


def _as_call(call: AnsweredCall) -> Call:
    return Call(
        account=call.account,
        call_uuid=call.call_uuid,
        from_number=call.from_number,
        to_number=call.to_number,
        direction=call.direction,
    )
