"""What a list of recordings is asked for, from the query of the request."""

from __future__ import annotations

import base64
from enum import StrEnum

from werkzeug.datastructures import MultiDict

from webhooks.api import request_bodies
from webhooks.api.problems import Problem
from worker import wire
from worker.calls.call import Phase, StopState
from worker.calls.events import Fault
from worker.catalogue.wanted import Wanted
from worker.ledger.calls import SeenAt

MOST = 200  # recordings on a page
_FOR_EVER_MS = 2**53


def wanted(query: MultiDict[str, str]) -> Wanted:
    """The filters; an empty one is none. Raises Problem 400 for a value that a filter does not
    take.
    """
    query = MultiDict((name, text) for name, text in query.items(multi=True) if text)
    return Wanted(
        phase=_one_of(query, "phase", Phase),
        stop=_one_of(query, "stop", StopState),
        fault=_one_of(query, "fault", Fault),
        rule=_text(query, "rule"),
        number=_number(query.get("number")),
        label=_label(_text(query, "label")),
        call_uuid=_text(query, "call_uuid"),
        account=_text(query, "account"),
        held=_whether(query.get("held")),
        since=request_bodies.instant(query.get("since"), "since"),
        until=request_bodies.instant(query.get("until"), "until"),
        q=_text(query, "q"),
    )


def limit(text: str | None) -> int:
    if not text:
        return 50
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST:
        raise Problem(400, f"limit: must be a whole number from 1 to {MOST}", field="limit")
    return int(text)


def cursor(text: str | None) -> SeenAt | None:
    """The place that `spelled` made a cursor of. Raises Problem 400 for any other text."""
    if not text:
        return None
    try:
        at, account, recording_id = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        place = SeenAt(int(at), recording_id, account)
    except ValueError:
        place = None
    # No database holds an instant beyond that, and PostgreSQL no text with a zero in it.
    if place is None or not 0 <= place.ms < _FOR_EVER_MS or "\0" in account + recording_id:
        raise Problem(400, "cursor: not one that we gave", field="cursor")
    return place


def spelled(sight: SeenAt) -> str:
    """A place in the list as a cursor."""
    text = f"{sight.ms}|{sight.account}|{sight.recording_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _one_of(query: MultiDict[str, str], name: str, words: type[StrEnum]) -> str | None:
    word = query.get(name)
    if word is not None and word not in set(words):
        raise Problem(400, f"{name}: must be one of {', '.join(words)}", field=name)
    return word


def _text(query: MultiDict[str, str], name: str) -> str | None:
    """A text to look for. A zero in it stands in no recording, and PostgreSQL refuses it."""
    text = query.get(name)
    if text is not None and "\0" in text:
        raise Problem(400, f"{name}: must not hold a zero character", field=name)
    return text


def _number(text: str | None) -> str | None:
    if text is None:
        return None
    number = wire.number_pattern(text)
    if number is None:
        raise Problem(
            400, "number: must be digits; * stands for any digits at either end", field="number"
        )
    return number


def _label(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise Problem(400, "label: must be NAME=VALUE", field="label")
    return name, value


def _whether(text: str | None) -> bool | None:
    if text not in {None, "true", "false"}:
        raise Problem(400, "held: must be true or false", field="held")
    return None if text is None else text == "true"
