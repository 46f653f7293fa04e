"""What was filed and what was done to recordings, until the day is closed that it belongs to.

{endtape}:filed:ACCOUNT      zset    `SHA256  NAME` of each file, by the instant it was filed (ms)
{endtape}:history:ACCOUNT    stream  who did what to a recording, in order; an id begins with the ms
{endtape}:entered:ACCOUNT:…  string  a play or an order that is not entered again for a time
{endtape}:days:ACCOUNT       hash    `first`, the first day that is closed; `closed`, the last one,
                                     with the digests of its `.json` and of its history's last line

The instant is Redis's, and is fixed by the script that writes. So what belongs to a day is all
there once Redis's clock has passed its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from worker.calls.history import PLAYED_WITHIN, Entry
from worker.calls.obligations import Duty
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, as_dict, span_ms

_AT_ONCE = 1000
_LOOKED_AT = 500  # entries in one script: 0.6 ms, in which Redis serves nobody else
_ORDERED_WITHIN = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entered:
    """An entry of the history, and when it was made. `id` is unlike any other of the account."""

    id: str
    at: datetime
    said: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """A closed day: the SHA-256 of its `.json`, and of the history's last line by its end."""

    day: date
    sha256: str
    head: str


class Daybook(Store):
    """The open days."""

    def enter(self, account: str, entry: Entry, *, order: str = "") -> bool:
        """Enters a deed. False where it stands there already: a play of the same person within ten
        minutes, or a deed with the same `order`, the id of its event, within a day.
        """
        within = _ORDERED_WITHIN if order else PLAYED_WITHIN if entry.once else timedelta(0)
        return bool(
            self.run(
                "enter_history",
                [
                    self.key("history", account),
                    self.key("entered", account, order or entry.once or ""),
                ],
                [written(entry), span_ms(within)],
            )
        )

    def history(self, account: str, *, until: datetime) -> list[Entered]:
        """What was done before that instant and is not in a closed day, in order."""
        found: list[Entered] = []
        key, start = self.key("history", account), "-"
        end = str(to_ms(until) - 1)
        while page := self.command("XRANGE", key, start, end, "COUNT", _AT_ONCE):
            for name, fields in page:
                found.append(_entered(name, as_dict(fields)["entry"]))
            start = f"({page[-1][0]}"
        return found

    def history_about(
        self, account: str, ids: Sequence[str], *, since: datetime
    ) -> Iterator[Entered]:
        """What was done since that instant, is in no closed day, and names one of these ids of
        recordings or calls; the last deed first. Redis looks for it, so that all else stays there.
        """
        key, newest, oldest = self.key("history", account), "+", str(to_ms(since))
        texts = [json.dumps(one, ensure_ascii=False) for one in ids]
        while newest:
            last, *found = self.run("find_history", [key], [newest, oldest, _LOOKED_AT, *texts])
            for name, entry in zip(found[::2], found[1::2], strict=True):
                yield _entered(name, entry)
            newest = last and f"({last}"

    def filed(self, account: str, *, until: datetime) -> list[str]:
        """The lines `SHA256  NAME` of what was filed before that instant and is in no closed
        day.
        """
        end = f"({to_ms(until)}"
        lines: list[str] = self.command("ZRANGEBYSCORE", self.key("filed", account), "-inf", end)
        return lines

    def is_open(self, account: str) -> bool:
        """Whether anything was filed or done that is in no closed day."""
        keys = (self.key("filed", account), self.key("history", account))
        return bool(self.command("ZCARD", keys[0]) or self.command("XLEN", keys[1]))

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

    def first_day(self, account: str, here: date) -> date:
        """The first day that is closed: today, where none was named yet. `here`: today by the
        caller's own clock; the earlier one counts.
        """
        today = min(self.now().date(), here).isoformat()
        self.command("HSETNX", self.key("days", account), "first", today)
        return date.fromisoformat(self.command("HGET", self.key("days", account), "first"))

    def closed_day(self, account: str) -> Closed | None:
        """The last day that was closed; None where the ledger knows of none."""
        found = self.command("HGET", self.key("days", account), "closed")
        if not found:
            return None
        day, sha256, head = found.split()
        return Closed(day=date.fromisoformat(day), sha256=sha256, head=head)

    def set_closed_day(self, account: str, closed: Closed) -> None:
        text = f"{closed.day.isoformat()} {closed.sha256} {closed.head}"
        self.command("HSET", self.key("days", account), "closed", text)

    def not_home(self, account: str, *, seen_before: datetime) -> list[str]:
        """The recordings first seen before that instant whose fetch is owed, in order."""
        prefix, owed = f"{Duty.FETCH}|{account}|", list[str]()
        with self.answering():
            for name, _ in self.redis.zscan_iter(self.key("due", Duty.FETCH), count=_AT_ONCE):
                if name.startswith(prefix):
                    owed.append(name.rpartition("|")[2])
        found = list[str]()
        for i in range(0, len(owed), _AT_ONCE):
            some = owed[i : i + _AT_ONCE]
            seen = self.command("ZMSCORE", self.key("recent", account), *some)
            before = to_ms(seen_before)
            found += [r for r, at in zip(some, seen, strict=True) if at and float(at) < before]
        return sorted(found)


def end_of(day: date) -> datetime:
    """The first instant after a day, which is UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _entered(name: str, entry: str) -> Entered:
    at = from_ms(int(name.partition("-")[0]))
    return Entered(id=name, at=at, said=json.loads(entry))


def written(entry: Entry) -> str:
    """An entry as the stream holds it."""
    return json.dumps(entry.written(), separators=(",", ":"), ensure_ascii=False)
