"""The operator's rules: when a recording must stop, what triggers it, how patiently we retry. Pure.

`docs/rules.md` is the operator's description. A field of a call that is not known matches nothing,
so a rule never acts on a guess. When the fact arrives, a rule is chosen again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from worker.calls.call import Call

DEFAULTS = "defaults"  # what decides where no rule matches
# Of the provider's events only these fall back to the key `transfer`.
_TRANSFERS = ("dial.connected", "conference.join")


class Action(StrEnum):
    """What a trigger does to the recordings that it covers."""

    STOP = "stop"
    KEEP = "keep"  # nothing
    PAUSE = "pause"  # ends them, to go on at a resume
    RESUME = "resume"


class Mode(StrEnum):
    """Whether rules act. Orders of our callers are carried out in either mode."""

    ENFORCE = "enforce"
    OBSERVE = "observe"  # report what would be due; send nothing


class Expect(StrEnum):
    """Which of its calls a rule wants recorded."""

    ANY = "any"  # it says nothing about that
    EVERY = "every"  # each that is answered
    NONE = "none"


# Our callers' orders are carried out, whatever the rules say.
_ORDERS = {"api": Action.STOP, "pause": Action.PAUSE, "resume": Action.RESUME}


@dataclass(frozen=True, kw_only=True, slots=True)
class DailyTime:
    """A wall-clock time in a zone, once a day."""

    at: time
    zone: ZoneInfo

    def first_from(self, start: datetime) -> datetime:
        """The first occurrence at or after `start`, in UTC. A local time that a clock change skips
        means the first instant after the gap; one that occurs twice means the first.
        """
        day = start.astimezone(self.zone).date() - timedelta(days=1)
        while True:
            instant = _on(datetime.combine(day, self.at), self.zone)
            if instant >= start:
                return instant
            day += timedelta(days=1)


def _on(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a local time, as `first_from` reads it."""
    early = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None) == local:
        return early
    # The clock change skips this local time. The change lies between the time read with the new
    # offset and the time read with the old one.
    late = early
    early = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class AfterArchive:
    """Who is told when a recording is home: an address, or a command of the operator.

    `secret_env`: the variable that holds what signs. `private`: the host may have a private or
    loopback address, and http. `numbers`: whether telephone numbers are handed on. `command`: its
    words, for no shell. `within`: so long the command may run.
    """

    url: str | None = None
    secret_env: str | None = None
    private: bool = False
    numbers: bool = False
    command: tuple[str, ...] = ()
    within: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What the rules say about one call."""

    mode: Mode = Mode.ENFORCE
    max_duration: timedelta | None = timedelta(hours=1)
    stop_at: tuple[DailyTime, ...] = ()
    confirm_within: timedelta = timedelta(seconds=10)
    stop_tries: int = 4
    if_unproven: str = "hold"
    watch: bool = False  # calls seen live that nobody announced get a deadline from first sight
    # Without consent so long after its start a recording is stopped, and restricted.
    consent_required: bool = False
    consent_within: timedelta = timedelta(seconds=30)
    # A stop by trigger with a longer tail restricts its recording; None: none does.
    tail_limit: timedelta | None = None
    retain: timedelta | None = None  # so long after its start a recording is erased; None: never
    # The provider's copy is deleted so long after ours is archived; None: never.
    keep_at_provider: timedelta | None = None
    after_archive: AfterArchive | None = None  # told when the file is home; None: nobody
    on: dict[str, Action] = field(default_factory=dict)
    expect: Expect | None = None

    @property
    def expects(self) -> Expect:
        """`expect`; where it is not given, a rule that watches its calls wants each recorded."""
        return self.expect or (Expect.EVERY if self.watch else Expect.ANY)

    def action(self, trigger: str, *, asked: bool = False) -> Action:
        """What a trigger does. The more specific key wins; without a key it keeps, or stops where a
        hand-off was `asked` for.
        """
        if trigger in _ORDERS:
            return _ORDERS[trigger]
        if trigger in self.on:
            return self.on[trigger]
        otherwise = Action.STOP if asked else Action.KEEP
        if trigger in _TRANSFERS or (
            trigger.startswith("transfer.") and trigger != "transfer.failed"
        ):
            return self.on.get("transfer", otherwise)
        return otherwise


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Patterns that a call must fit, all of them. None: any value. A pattern may begin or end with
    `*`.
    """

    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    account: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def fits(self, call: Call) -> bool:
        return self.misfit(call) is None

    def lacks(self, call: Call) -> bool:
        """Whether only numbers or a direction that we do not know keep a call from fitting."""
        missing: dict[str, Any] = {
            name: None
            for name in ("from_number", "to_number", "direction")
            if getattr(self, name) is not None and getattr(call, name) is None
        }
        return bool(missing) and replace(self, **missing).fits(call)

    def misfit(self, call: Call) -> str | None:
        """The first field that does not fit, in words; None when all fit."""
        pairs = [
            ("from", self.from_number, call.from_number),
            ("to", self.to_number, call.to_number),
            ("direction", self.direction, call.direction),
            ("account", self.account, call.account),
            *(
                (f"labels.{key}", pattern, call.labels.get(key))
                for key, pattern in self.labels.items()
            ),
        ]
        for name, pattern, value in pairs:
            if pattern is not None and not fits(pattern, value):
                return (
                    f"{name} is {value!r}, wanted {pattern!r}"
                    if value is not None
                    else f"{name} is not known, wanted {pattern!r}"
                )
        return None

    def covers(self, other: Match) -> bool:
        """Whether every call that fits `other` fits this too. Then a later rule with `other` can
        never apply.
        """
        pairs = (
            (self.from_number, other.from_number),
            (self.to_number, other.to_number),
            (self.direction, other.direction),
            (self.account, other.account),
        )
        return all(
            wide is None or (narrow is not None and _covers(wide, narrow)) for wide, narrow in pairs
        ) and all(
            key in other.labels and _covers(wide, other.labels[key])
            for key, wide in self.labels.items()
        )


def fits(pattern: str, value: str | None) -> bool:
    """Whether a value fits a pattern with at most one `*` at each end."""
    if value is None:
        return False
    middle = pattern.strip("*")
    if pattern.startswith("*") and pattern.endswith("*"):
        return middle in value
    if pattern.startswith("*"):
        return value.endswith(middle)
    if pattern.endswith("*"):
        return value.startswith(middle)
    return value == pattern


def _covers(wide: str, narrow: str) -> bool:
    """Whether every value that fits `narrow` fits `wide`."""
    # A `*` stands for anything, so `wide` needs a `*` at each end where `narrow` has one.
    if (narrow.startswith("*") and not wide.startswith("*")) or (
        narrow.endswith("*") and not wide.endswith("*")
    ):
        return False
    return fits(wide, narrow.strip("*"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The terms of the calls that match."""

    name: str
    match: Match
    terms: Terms


OBSERVE_ALL = Terms(mode=Mode.OBSERVE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """All rules, in order; the first that matches decides. Without a file everything is only
    observed.
    """

    rules: tuple[Rule, ...] = ()
    defaults: Terms = OBSERVE_ALL
    # How far back from our first start unannounced recordings are fetched.
    adopt: timedelta | None = None
    from_file: bool = False

    @property
    def watches(self) -> bool:
        """Whether any rule watches, so that a survey has to ask about unannounced calls."""
        return any(terms.watch for terms in self.all_terms)

    @property
    def all_terms(self) -> tuple[Terms, ...]:
        """The terms of every rule, and the defaults."""
        return (self.defaults, *(rule.terms for rule in self.rules))

    @property
    def expects_every(self) -> bool:
        """Whether any rule wants all its calls recorded, so that we have to know which there
        were.
        """
        return any(terms.expects is Expect.EVERY for terms in self.all_terms)

    @property
    def after_archive(self) -> tuple[AfterArchive, ...]:
        """Whoever any rule tells of a recording that is home, each once."""
        everybody = (terms.after_archive for terms in self.all_terms)
        return tuple(dict.fromkeys(told for told in everybody if told))

    def lacks_facts(self, call: Call) -> bool:
        """Whether another rule might decide if we knew the call's numbers and direction."""
        for rule in self.rules:
            if rule.match.fits(call):
                return False
            if rule.match.lacks(call):
                return True
        return False

    def choose(self, call: Call) -> tuple[str, Terms]:
        """The deciding rule's name and terms; DEFAULTS where no rule matches."""
        for rule in self.rules:
            if rule.match.fits(call):
                return rule.name, rule.terms
        return DEFAULTS, self.defaults

    def terms_of(self, name: str | None) -> Terms:
        """The terms of the rule of this name, as it is now; the defaults where none has it."""
        return next((rule.terms for rule in self.rules if rule.name == name), self.defaults)


# The triggers that are instants of a recording's own.
DEADLINES = {"max_duration", "stop_at", "consent"}


def deadline(terms: Terms, started_at: datetime) -> tuple[datetime, str] | None:
    """The latest instant that the terms allow, and which of them set it; None when nothing bounds
    the recording.
    """
    ends = []
    if terms.max_duration is not None:
        ends.append((started_at + terms.max_duration, "max_duration"))
    if terms.stop_at:
        ends.append((min(daily.first_from(started_at) for daily in terms.stop_at), "stop_at"))
    return min(ends, default=None)
