"""How far the notifications of each call came.

{endtape}:notices:ACCOUNT:CALL  hash  `ENDPOINT NOTICE` → `done`, or the failed tries as JSON
{endtape}:notices-failing       hash  `ACCOUNT CALL ENDPOINT NOTICE` → what failed, as JSON
{endtape}:notices-since         hash  endpoint → from when on it hears of events (ms)
{endtape}:endpoint-down:NAME    string  the endpoint does not answer; left alone until it expires
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from worker.calls.notices import KNOWN_FOR
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, as_dict

_KEPT = KNOWN_FOR + timedelta(days=1)  # so that none is sent twice
# An event is recorded shortly before its notices are first looked at.
_BEFORE = timedelta(minutes=1)
_DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """The failed tries of one notice at one endpoint. `given_up`: no further try will follow."""

    count: int
    first_at: datetime
    why: str
    given_up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Failing:
    """A notice that did not arrive, for a person to look at. `url`: of its endpoint, or its
    command. `hands_on`: the recording that is handed on, where it is about that.
    """

    account: str
    call_uuid: str
    endpoint: str
    notice: str
    type: str
    url: str
    tries: int
    why: str
    given_up: bool
    hands_on: str | None = None


class Notices(Store):
    """The state of notifications."""

    def since(self, endpoints: Iterable[str], now: datetime) -> dict[str, datetime]:
        """From when on each endpoint hears of events: a minute before it was first seen here."""
        names = list(endpoints)
        key = self.key("notices-since")
        with self.pipeline() as pipe:
            for name in names:
                pipe.hsetnx(key, name, to_ms(now - _BEFORE))
                pipe.hget(key, name)
            answers = pipe.execute()
        return {name: from_ms(int(at)) for name, at in zip(names, answers[1::2], strict=True) if at}

    def notices(self, account: str, call_uuid: str) -> dict[str, Tries | None]:
        """By `ENDPOINT NOTICE`: the failed tries, or None for one that arrived."""
        stored = as_dict(self.command("HGETALL", self.key("notices", account, call_uuid)))
        return {name: _tries(text) for name, text in stored.items()}

    def note(self, account: str, call_uuid: str, changed: Mapping[str, Tries | None]) -> None:
        """Notes what became of notices; None for one that arrived."""
        if not changed:
            return
        key = self.key("notices", account, call_uuid)
        with self.pipeline() as pipe:
            for name, tries in changed.items():
                pipe.hset(key, name, _text(tries))
            pipe.expire(key, _KEPT)

    def note_failing(self, failing: Failing) -> None:
        # An older release beside us knows only what it wrote itself.
        said = {name: value for name, value in asdict(failing).items() if value is not None}
        self.command("HSET", self.key("notices-failing"), _place(failing), json.dumps(said))

    def note_arrived(self, account: str, call_uuid: str, names: Iterable[str]) -> None:
        """Takes notices off the list of those that fail."""
        places = [f"{account} {call_uuid} {name}" for name in names]
        if places:
            self.command("HDEL", self.key("notices-failing"), *places)

    def failing(self, most: int | None = None) -> list[Failing]:
        """Those that fail, by account and call; the first `most` where that is given."""
        stored = as_dict(self.command("HGETALL", self.key("notices-failing")))
        return [Failing(**json.loads(text)) for _, text in sorted(stored.items())[:most]]

    def failing_count(self) -> int:
        return int(self.command("HLEN", self.key("notices-failing")))

    def forget_failing(self) -> None:
        """Takes off the list what nobody can send any more: how far its call came is forgotten."""
        for failing in self.failing():
            if not self.command("EXISTS", self.key("notices", failing.account, failing.call_uuid)):
                self.command("HDEL", self.key("notices-failing"), _place(failing))

    def try_again(self, failing: Failing) -> None:
        """Forgets the failed tries of a notice. Its call has then to be made due."""
        name = f"{failing.endpoint} {failing.notice}"
        self.command("HDEL", self.key("notices", failing.account, failing.call_uuid), name)
        self.note_arrived(failing.account, failing.call_uuid, [name])

    # Endpoints that do not answer
    # -------------------------------------------------------------------------------------------

    def down_until(self, endpoint: str) -> timedelta | None:
        """For how long an endpoint is still left alone; None: it may be tried."""
        left_ms = int(self.command("PTTL", self.key("endpoint-down", endpoint)))
        return timedelta(milliseconds=left_ms) if left_ms > 0 else None

    def set_down(self, endpoint: str, span: timedelta) -> None:
        milliseconds = max(1, round(span / timedelta(milliseconds=1)))
        self.command("SET", self.key("endpoint-down", endpoint), "1", "PX", milliseconds)


def _place(failing: Failing) -> str:
    return f"{failing.account} {failing.call_uuid} {failing.endpoint} {failing.notice}"


def _text(tries: Tries | None) -> str:
    if tries is None:
        return _DONE
    return json.dumps([tries.count, to_ms(tries.first_at), tries.why, tries.given_up])


def _tries(text: str) -> Tries | None:
    if text == _DONE:
        return None
    count, first_ms, why, given_up = json.loads(text)
    return Tries(count=count, first_at=from_ms(first_ms), why=why, given_up=given_up)
