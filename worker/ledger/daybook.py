"""What was filed and what was done to recordings, until the day is closed that it belongs to.

{endtape}:filed:ACCOUNT    zset    `SHA256  NAME` of each file, by the instant when it was filed (ms)
{endtape}:history:ACCOUNT  stream  who did what to a recording, in order; an id begins with the ms
{endtape}:played:…         string  a play within the last ten minutes, which is not entered again
{endtape}:days:ACCOUNT     hash    `first`, the first day that is closed; `closed`, the last one

The instant is Redis's, and is fixed by the script that writes. So what belongs to a day is all
there once Redis's clock has passed its end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from worker.calls.history import PLAYED_WITHIN, Entry
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, as_dict, span_ms

_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Entered:
    """An entry of the history, and when it was made. `id` is unlike any other of the account."""

    id: str
    at: datetime
    said: dict[str, Any]


class Daybook(Store):
    """The open days."""

    def enter(self, account: str, entry: Entry) -> bool:
        """Enters a deed. False where it stands there already: one play within ten minutes."""
        once = entry.once
        return bool(
            self.run(
                "enter_history",
                [self.key("history", account), self.key("played", account, once or "")],
                [written(entry), span_ms(PLAYED_WITHIN) if once else 0],
            )
        )

    def history(self, account: str, *, until: datetime) -> list[Entered]:
        """What was done before that instant and is not in a closed day, in order."""
        found: list[Entered] = []
        key, start = self.key("history", account), "-"
        end = str(to_ms(until) - 1)
        while page := self.command("XRANGE", key, start, end, "COUNT", _AT_ONCE):
            for name, fields in page:
                said = json.loads(_as_dict(fields)["entry"])
                at = from_ms(int(name.partition("-")[0]))
                found.append(Entered(id=name, at=at, said=said))
            start = f"({page[-1][0]}"
        return found

    def filed(self, account: str, *, until: datetime) -> list[str]:
        """The lines `SHA256  NAME` of what was filed before that instant and is in no closed
        day.
        """
        end = f"({to_ms(until)}"
        lines: list[str] = self.command("ZRANGEBYSCORE", self.key("filed", account), "-inf", end)
        return lines

    def note_filed(self, account: str, lines: Sequence[str]) -> None:
        """Notes files that no event tells of. Harmless to repeat until the day is closed."""
        if lines:
            now = to_ms(self.now())
            scored = [part for line in lines for part in (now, line)]
            self.command("ZADD", self.key("filed", account), "NX", *scored)

    def forget_day(self, account: str, filed: Sequence[str], history: Sequence[str]) -> None:
        """Forgets what a closed day holds: lines of files, and ids of the history."""
        with self.pipeline() as pipe:
            for i in range(0, len(filed), _AT_ONCE):
                pipe.zrem(self.key("filed", account), *filed[i : i + _AT_ONCE])
            for i in range(0, len(history), _AT_ONCE):
                pipe.xdel(self.key("history", account), *history[i : i + _AT_ONCE])

    # Which days are closed
    # ---------------------------------------------------------------------------------------

    def first_day(self, account: str) -> date:
        """The first day that is closed: today, where none was named yet."""
        today = self.now().date().isoformat()
        self.command("HSETNX", self.key("days", account), "first", today)
        return date.fromisoformat(self.command("HGET", self.key("days", account), "first"))

    def closed_day(self, account: str) -> date | None:
        """The last day that was closed; None where the ledger knows of none."""
        found = as_dict(self.command("HGETALL", self.key("days", account))).get("closed")
        return date.fromisoformat(found) if found else None

    def set_closed_day(self, account: str, day: date) -> None:
        self.command("HSET", self.key("days", account), "closed", day.isoformat())


def end_of(day: date) -> datetime:
    """The first instant after a day, which is UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def written(entry: Entry) -> str:
    """An entry as the stream holds it."""
    return json.dumps(entry.written(), separators=(",", ":"), ensure_ascii=False)


def _as_dict(fields: Any) -> dict[str, str]:
    return as_dict(fields)
