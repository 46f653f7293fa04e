"""Simulated time, the log of each call, and the obligations: the ledger without Redis.

`record`, `record_together` and a commit do what the scripts in `worker/ledger/lua` do, each in one
step.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.model.ours import (
    REPEAT_AFTER,
    Event,
    Kind,
    decode,
    encode,
    may_happen_again,
    replay,
    to_ms,
)

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
ACCOUNT, A_LEG = "MA_7QK2XWPD", "5b0c7c9e-2f5d-4a7f-9d5c-6f1e2b3a4c01"
TELLS = {
    Kind.RECORDING_STARTED,
    Kind.RECORDING_FINALIZED,
    Kind.RECORDING_LISTED,
    Kind.RECORDING_ANNOUNCED,
    Kind.START_ACCEPTED,
}
Key = tuple[str, str, str]  # duty, call, recording


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def since_start(instant: datetime) -> str:
    return f"{(instant - T0).total_seconds():.3f}"


class Violation(Exception):
    """A violation that ends the life at once."""


class Book:
    """One call's log. It only grows, so its size shows whether there are newer events."""

    def __init__(self, call_uuid: str) -> None:
        self.call_uuid = call_uuid
        self.events: dict[str, Event] = {}
        self._replayed = (-1, None)

    @property
    def size(self) -> int:
        return len(self.events)

    def call(self):
        """The call that the events add up to, cached by the size of the log."""
        if self._replayed[0] != self.size:
            self._replayed = (self.size, replay(ACCOUNT, self.call_uuid, self.events.values()))
        return self._replayed[1]

    def lines_like(self, event_id: str) -> list[Event]:
        """The event of this id, and those that look like it and happened again."""
        again = re.compile(re.escape(event_id) + r"(\.\d+)?")
        return [e for i, e in self.events.items() if again.fullmatch(i)]


class World:
    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.rng, self.seed, self.trace = random.Random(seed), seed, trace
        self.now, self.heap, self.count = T0, [], itertools.count()
        self.books = {A_LEG: Book(A_LEG)}
        self.dues: dict[Key, datetime] = {}
        self.held: set[Key] = set()
        self.fence = 0
        self.steps: Counter[int] = Counter()
        self.flagged: set[tuple[str, str]] = set()
        self.found: list[tuple[str, str]] = []

    @property
    def log(self) -> dict[str, Event]:
        """The log of the call itself, by its A-leg."""
        return self.books[A_LEG].events

    def events(self) -> list[Event]:
        return list(self.log.values())

    def call(self):
        return self.books[A_LEG].call()

    # Time
    # --------------------------------------------------------------------------------------------

    def say(self, *words: object) -> None:
        if self.trace:
            print(f"{(self.now - T0).total_seconds():10.3f}", *words)

    def violation(self, kind: str, what: str, about: str = "") -> None:
        if (kind, about) not in self.flagged:
            self.flagged.add((kind, about))
            self.found.append((kind, f"t={since_start(self.now)} {what}"))
            self.say("  !!!!", kind, what)

    def at(self, instant: datetime, does, *args) -> None:
        heapq.heappush(self.heap, (instant, next(self.count), does, args))

    def after(self, seconds: float, does, *args) -> None:
        self.at(self.now + s(seconds), does, *args)

    def ms(self) -> datetime:
        """Redis's clock, in whole milliseconds."""
        return T0 + s(round((self.now - T0).total_seconds(), 3))

    # The ledger
    # --------------------------------------------------------------------------------------------

    def store(self, event: Event) -> Event:
        """Adds a line, as a reader decodes it."""
        book = self.books.setdefault(event.call_uuid, Book(event.call_uuid))
        line = f"{event.id} {to_ms(self.ms())} {encode(event, ACCOUNT)}"
        back = decode(line, ACCOUNT, event.call_uuid)[0]
        book.events[event.id] = back
        self.say(
            "  log",
            "" if event.call_uuid == A_LEG else f"of {event.call_uuid}:",
            back.kind.value,
            back.recording_id or "",
            back.order or "",
            back.trigger or "",
            back.reason or "",
            "" if back.signed else "(unsigned)",
        )
        self.stored(back)
        return back

    def stored(self, event: Event) -> None:
        """Is called with each recorded event. Subclasses override it."""

    def record(self, event: Event) -> Event | None:
        """Does what `record.lua` does. Returns the event as recorded, or None for a repeat."""
        book = self.books.setdefault(event.call_uuid, Book(event.call_uuid))
        if event.id in book.events:
            last = max(e.at for e in book.lines_like(event.id))
            if not may_happen_again(event) or self.ms() - last < REPEAT_AFTER:
                return None
            event = replace(event, id=f"{event.id}.{to_ms(self.ms())}")
        back = self.store(event)
        self.make_due_now(("stop", event.call_uuid, ""))
        self.news()
        return back

    def record_together(self, call_uuid: str, events: list[Event], *, seen: int) -> bool:
        """Does what `record_together.lua` does: records all events or none, and none when the log
        has grown.
        """
        book = self.books[call_uuid]
        if book.size != seen or events[-1].id in book.events:
            return False
        for event in events:
            if event.id not in book.events:
                self.store(event)
        self.news()
        return True

    def make_due_now(self, key: Key) -> None:
        if key not in self.held:
            self.dues[key] = min(self.now, self.dues.get(key, self.now))

    def news(self) -> None:
        """Is called after events were recorded, for the requests that wait. Subclasses
        override it.
        """
