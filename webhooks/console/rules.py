"""The page of rules: what is in force and what each matched, a call tried against them, and what a
changed file would have done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from flask import redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.console.asked import FACTS
from webhooks.console.now import Now
from webhooks.console.page import address, rendered
from worker.calls import explain, rules_file, simulation, terms_file
from worker.calls.call import Call, is_no_call
from worker.calls.replay import replay
from worker.calls.rules import DailyTime, Rule, Rules, Terms
from worker.calls.views import rfc3339
from worker.errors import CatalogueAway, SettingsError
from worker.ledger import recent_calls
from worker.ledger.whose import find_call

COUNTED = timedelta(days=30)  # so far back it is counted what a rule matched
SPANS = ("1h", "1d", "7d", "30d")  # how far back a simulation may go
MOST_CALLS, FOR_S = 2000, 2.0  # what a simulation here plays at most
SHOWN = 200  # changed recordings
_YIELD_S = 0.0005  # after each call: callbacks are answered in this process, too
_KEPT = ("retain", "keep_at_provider")  # for ever, where the file names no time


class RulesPage:
    def __init__(self, reader: Reader, now: Now) -> None:
        self._reader, self._now = reader, now
        self._ledger, self._settings = reader.ledger, reader.settings
        self._simulating = threading.Lock()

    def shown(self) -> str | AnyResponse:
        """The rules in force; a call tried against them, where the query has one's facts."""
        query = request.args
        if any(value == "" for value in query.values()):
            # A form sends what was left empty, too: such an address is no good to send to others.
            return redirect(address(request.path, query), 303)
        tried, wrong = None, None
        if any(name in query for name in FACTS):
            try:
                tried = self._tried(query)
            except Problem as problem:
                wrong = problem
        return self._page(tried=tried, wrong=wrong)

    def simulated(self) -> str | tuple[str, int]:
        """What the rules of the form's text or file would have done with the calls of late."""
        form, text = request.form, _given_text()
        asked = {"text": text, "since": form.get("since", "7d"), "rate": form.get("rate", "")}
        if not text.strip():
            nothing = "no file and no text was given, so nothing was simulated"
            return self._page(asked=asked, mistakes=[nothing]), 400
        try:
            rules = rules_file.read(text, "the new rules").rules
        except SettingsError as error:
            return self._page(asked=asked, mistakes=error.problems), 400
        span = terms_file.duration(asked["since"])
        if span is None or asked["since"] not in SPANS:
            raise Problem(400, f"since: must be one of {', '.join(SPANS)}", field="since")
        return self._page(asked=asked, simulated=self._play(rules, span, _rate(asked["rate"])))

    def _page(self, **values: Any) -> str:
        rules = self._settings().rules
        defaults = _terms(rules.defaults)
        since = self._ledger.now() - COUNTED
        counts, away = self._counts(since)
        running = Counter(view["stop"]["rule"] for view in self._now.board().running)
        return rendered(
            "rules.html",
            rules=[
                (rule.name, _match(rule), *_own(_terms(rule.terms), defaults))
                for rule in rules.rules
            ],
            defaults=defaults,
            from_file=rules.from_file,
            adopt=_plain(rules.adopt) if rules.adopt else "new (left alone)",
            counts=counts,
            running=running,
            gone=sorted(counts.keys() - {rule.name for rule in rules.rules} - {"defaults"}),
            away=away,
            since=rfc3339(since),
            query=request.args,
            accounts=list(self._settings().accounts),
            triggers=terms_file.TRIGGERS,
            spans=SPANS,
            **values,
        )

    def _counts(self, since: datetime) -> tuple[dict[str, int], str | None]:
        """How many finished recordings each rule decided about of late, and why nobody knows."""
        try:
            return self._reader.catalogue.by_rule(since=since), None
        except CatalogueAway as error:
            return {}, str(error)

    # A call that is tried
    # --------------------------------------------------------------------------------------------

    def _tried(self, query: MultiDict[str, str]) -> dict[str, Any]:
        """As `endtape explain` has it. Raises Problem 400 and 404."""
        trigger = query.get("trigger")
        if trigger and not terms_file.TRIGGER.fullmatch(trigger):
            known = terms_file.TRIGGERS
            raise Problem(400, f"trigger: unknown; known are {known}", field="trigger")
        call, rules = self._meant(query), self._settings().rules
        tried = explain.explain(call, rules, self._ledger.now(), trigger=trigger)
        return tried | {"at_most": _plain(rules.choose(call)[1].max_duration)}

    def _meant(self, query: MultiDict[str, str]) -> Call:
        accounts = list(self._settings().accounts)
        if named := query.get("call"):
            known = find_call(self._ledger, accounts, named, a_leg_first=True)
            if known is None:
                raise Problem(404, "call: no such call is known any more", field="call")
            call = replay(*known, self._ledger.events(*known))
            if is_no_call(call, call.attempts):
                raise Problem(
                    404, "call: nothing is known of it but our own stop, which failed", field="call"
                )
            return call
        if query.get("direction") not in {None, "inbound", "outbound"}:
            raise Problem(400, "direction: must be inbound or outbound", field="direction")
        return explain.imagined(
            account=query.get("account") or accounts[0],
            from_number=query.get("from"),
            to_number=query.get("to"),
            direction=query.get("direction"),
            labels=_labels(query.getlist("label")),
        )

    # Other rules
    # --------------------------------------------------------------------------------------------

    def _play(self, rules: Rules, span: timedelta, rate: float | None) -> dict[str, Any]:
        """As `endtape simulate` has it, of the newest calls, for a while. Raises Problem 503 while
        somebody else's runs.
        """
        if not self._simulating.acquire(blocking=False):
            raise Problem(503, "another simulation runs here; send this one again when it is done")
        try:
            until, ledger = time.monotonic() + FOR_S, self._ledger
            since = ledger.now() - span
            found = recent_calls.first_seen(ledger, self._settings().accounts, since=since)
            newest, played = list(islice(found, MOST_CALLS + 1)), list[dict[str, Any]]()
            for account, call_uuid, log in recent_calls.logs(ledger, newest[:MOST_CALLS]):
                if time.monotonic() > until:
                    break
                played.append(simulation.of_call(account, call_uuid, log, rules))
                time.sleep(_YIELD_S)
        finally:
            self._simulating.release()
        changed = simulation.changed(played)
        handoffs = simulation.all_handoffs(played)
        return {
            "calls": len(played),
            "is_cut": len(played) < len(newest),
            "totals": simulation.totals(played, rate),
            "rate": rate,
            "changed": changed[:SHOWN],
            "more": max(0, len(changed) - SHOWN),
            "handoffs": len(handoffs),
            "turned": simulation.turned(handoffs)[:SHOWN],
            "unsought": simulation.unsought(handoffs),
        }


def _given_text() -> str:
    """The rules of the uploaded file, or else of the form's field."""
    file = request.files.get("file")
    content = file.read() if file else b""
    try:
        return content.decode() if content else request.form.get("rules", "")
    except UnicodeDecodeError:
        raise Problem(400, "file: must be a text in UTF-8", field="file") from None


def _rate(text: str) -> float | None:
    """What a recorded minute costs; None where nothing was given. Raises Problem 400."""
    if not text.strip():
        return None
    with contextlib.suppress(ValueError):
        rate = float(text)
        if 0 <= rate < 1e6:
            return rate
    raise Problem(400, "rate: must be what a minute costs, like 0.10", field="rate")


def _labels(texts: Sequence[str]) -> dict[str, str]:
    """The labels of `NAME=VALUE, NAME=VALUE`. Raises Problem 400."""
    pairs = [pair.strip() for text in texts for pair in text.split(",") if pair.strip()]
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise Problem(400, f"label: {wrong[0]!r:.80} must be NAME=VALUE", field="label")
    return dict(pair.partition("=")[::2] for pair in pairs)


# How rules look
# ------------------------------------------------------------------------------------------------


def _match(rule: Rule) -> dict[str, str]:
    said = asdict(rule.match)
    labels = {f"label {name}": value for name, value in said.pop("labels").items()}
    names = {"from_number": "from", "to_number": "to"}
    return {names.get(k, k): v for k, v in said.items() if v is not None} | labels


def _terms(terms: Terms) -> dict[str, str]:
    """The terms by the keys of the file, about as it spells them."""
    said = {one.name: _plain(getattr(terms, one.name)) for one in fields(terms)}
    del said["consent_required"]
    said["consent"] = "required" if terms.consent_required else "ignored"
    said["expect"] = terms.expects.value
    for name in _KEPT:
        if getattr(terms, name) is None:
            said[name] = "forever"
    return said


def _own(terms: dict[str, str], defaults: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The terms in which a rule differs from the defaults, and those that it has from them."""
    own = {name: value for name, value in terms.items() if value != defaults[name]}
    return own, {name: value for name, value in terms.items() if name not in own}


def _plain(value: Any) -> str:
    """A value of the rules, about as it stands in the file."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return terms_file.spelled(value)
    if isinstance(value, DailyTime):
        return f"{value.at:%H:%M} {value.zone}"
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items()) or "nothing"
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
