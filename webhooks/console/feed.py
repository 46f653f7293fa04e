"""What tabs are sent: what changed on the page that they have open, made once for all of them.

One thread of the process listens to Redis while anybody looks, and has the pages' parts made anew
when something happened, at most once a second. A part of the first page is a piece of HTML with a
name: the red line, the tiles, each row of the table. Of the page of a call or recording it is told
only that it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from worker import logs
from worker.errors import EndtapeError
from worker.ledger.changes import Changes, changes
from worker.ledger.client import Ledger

log = structlog.get_logger()
_EVERY_S = 1.0  # at most one message in this time
_AT_LEAST_S = 5.0  # processes, disks and clocks change without any call's log
_STEP_S = 0.25  # so soon a new tab, or that the last one went, is noticed
_AGAIN_S = 1.0  # after Redis did not answer
_TOGETHER, _APART_S = 10, 0.01  # so many tabs are told at once, then callbacks have their turn


class FirstPage(NamedTuple):
    """The first page, which differs by what its reader may do, and whether it shows numbers."""

    acts: bool
    shows_numbers: bool


class OneCall(NamedTuple):
    """A page about one call, or about a recording of it."""

    account: str
    call_uuid: str


Watched = FirstPage | OneCall  # what a tab may have open


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """A page at an instant. `rows`: the names of the table's rows, in their order."""

    at: str
    html: Mapping[str, str]
    rows: tuple[str, ...]


_NOTHING = Parts(at="", html={}, rows=())
_AWAY = b'data: {"away": true}\n\n'


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A message for the tabs with one page: `change` for those that have the frame before it,
    `whole` for all others. Both are JSON: `at`, `set` (HTML by the name of its part) and, where the
    rows are other ones or stand in another order, `rows`; or `away` where nothing is known just
    now.
    """

    number: int
    whole: bytes
    change: bytes
    parts: Parts = field(repr=False)


@dataclass(eq=False, slots=True)
class Tab:
    """A tab that is told. `news` is set for each new frame; `number`: of the frame that it has."""

    page: Watched
    news: asyncio.Event = field(default_factory=asyncio.Event)
    number: int | None = None

    def next(self, frame: Frame | None) -> bytes | None:
        """What brings the tab from what it has to this frame; None where it has it."""
        if frame is None or frame.number == self.number:
            return None
        has_last = self.number is not None and frame.number == self.number + 1
        self.number = frame.number
        return frame.change if has_last else frame.whole


class Feed:
    """One for each event loop. Its thread runs while there are tabs.

    `parts`: makes the parts of a page, from what is known now; `due_in`: for how many seconds it
    would make the same ones.
    """

    def __init__(
        self, ledger: Ledger, parts: Callable[[Watched], Parts], due_in: Callable[[], float]
    ) -> None:
        self._ledger, self._parts, self._due_in = ledger, parts, due_in
        self._tabs: set[Tab] = set()
        self._frames: dict[Watched, Frame] = {}
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()  # a tab came of whose page there is no frame
        self._lock = threading.Lock()  # of the thread's end and the next tab's coming

    # On the event loop
    # --------------------------------------------------------------------------------------------

    def join(self, tab: Tab) -> None:
        """From here on the tab's `news` is set for each frame."""
        with self._lock:
            self._tabs.add(tab)
            if self._thread is None:
                loop = asyncio.get_running_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(loop,), name="feed", daemon=True
                )
                self._thread.start()
        if tab.page in self._frames:
            tab.news.set()
        else:
            self._wanted.set()

    def leave(self, tab: Tab) -> None:
        with self._lock:
            self._tabs.discard(tab)

    def frame(self, page: Watched) -> Frame | None:
        """The last one of this page; None where none was made yet."""
        return self._frames.get(page)

    def _tell(self, pages: set[Watched]) -> None:
        tabs = [tab for tab in self._tabs if tab.page in pages]
        loop = asyncio.get_running_loop()
        for i in range(0, len(tabs), _TOGETHER):
            some = tabs[i : i + _TOGETHER]
            loop.call_later(i // _TOGETHER * _APART_S, _wake, some)

    # In the thread
    # --------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        # The one place where the thread learns that it is over: from there on a new tab begins the
        # next, and two of them would number their frames alike.
        while self._is_watched():
            try:
                with changes(self._ledger) as heard:
                    while self._tabs:
                        self._turn(heard, loop)
            except EndtapeError as error:
                if logs.seldom("live", error):
                    log.warning("open pages are not told what changes", error=str(error))
                self._say_away(loop)
            except Exception:
                log.exception("open pages are not told what changes, by a fault of ours")
                self._say_away(loop)

    def _is_watched(self) -> bool:
        """Whether anybody looks. Where nobody does, this thread is over, and the frames are old."""
        with self._lock:
            if self._tabs:
                return True
            self._thread, self._frames = None, {}
            return False

    def _turn(self, heard: Changes, loop: asyncio.AbstractEventLoop) -> None:
        """Makes what changed, tells the tabs, and waits until something may have changed again."""
        heard.listen()
        # What somebody had made before we listened may lack a change that we did not hear.
        look_again_s = max(self._due_in(), 0) or _AT_LEAST_S
        self._wanted.clear()
        self._hand_over(loop, {page for page in self._pages() if self._make(page)})
        until = time.monotonic() + look_again_s
        while self._tabs and time.monotonic() < until and not self._wanted.is_set():
            if heard.wait(_STEP_S):
                break
        heard.rest()
        self._wanted.wait(max(_EVERY_S, self._due_in()))

    def _make(self, page: Watched) -> bool:
        """Makes the next frame of this page; False where nothing changed."""
        last, parts = self._frames.get(page), self._parts(page)
        number = last.number + 1 if last else 0
        before = last.parts if last else _NOTHING
        changed = {n: html for n, html in parts.html.items() if before.html.get(n) != html}
        if not changed and before.rows == parts.rows:
            return False
        whole = _message(parts, parts.html, parts.rows)
        same = before is not _NOTHING and before.rows == parts.rows
        change = _message(parts, changed, None if same else parts.rows)
        self._frames[page] = Frame(number=number, whole=whole, change=change, parts=parts)
        return True

    def _say_away(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tells every tab, once, that what it shows is old; and lets a second pass."""
        fresh = [p for p in self._pages() if (f := self._frames.get(p)) and f.parts is not _NOTHING]
        for page in fresh:
            number = self._frames[page].number + 1
            self._frames[page] = Frame(number=number, whole=_AWAY, change=_AWAY, parts=_NOTHING)
        self._hand_over(loop, set(fresh))
        time.sleep(_AGAIN_S)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, pages: set[Watched]) -> None:
        if pages:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(self._tell, pages)

    def _pages(self) -> set[Watched]:
        with self._lock:
            return {tab.page for tab in self._tabs}


def parts_of_call(ledger: Ledger, page: OneCall) -> Parts:
    """The size of the call's log: a page about one call is told only that this changed."""
    return Parts(at="", html={"size": str(ledger.size(*page))}, rows=())


def _wake(tabs: list[Tab]) -> None:
    for tab in tabs:
        tab.news.set()


def _message(parts: Parts, html: Mapping[str, str], rows: tuple[str, ...] | None) -> bytes:
    said: dict[str, Any] = {"at": parts.at, "set": dict(html)}
    if rows is not None:
        said["rows"] = rows
    return b"data: " + json.dumps(said, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
