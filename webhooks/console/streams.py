"""The streams of open pages: server-sent events, served on the event loop.

A stream costs a connection and a coroutine, and never a thread. It ends when its session does, when
its reader takes nothing for a minute, and when the tab goes away; the browser's script closes it
while the tab is hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from types import FrameType
from typing import Any
from urllib.parse import parse_qsl

from webhooks.console import sessions
from webhooks.console.feed import Feed, FirstPage, OneCall, Tab, Watched
from webhooks.console.page import NUMBERS_COOKIE
from worker.settings import Settings

PATH = b"/now/live"
MOST = 1000  # streams of a process; a tab beyond them asks every 10 s
_EVERY_S = 1.0  # at most one message in this time
_SILENT_S = 15.0  # so often a line that means nothing says that the connection lives
_LOOK_AGAIN_S = 60.0
_READER_S = 60.0  # a reader must take each message within
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy must not collect it
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_ENDS = (signal.SIGINT, signal.SIGTERM)
_PLAIN = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Streams:
    """`settings` is called for each message, so that a reload takes effect. `most`: how many
    streams there may be at once.
    """

    def __init__(self, feed: Feed, settings: Callable[[], Settings], *, most: int = MOST) -> None:
        self._feed, self._settings, self._left = feed, settings, most
        self._tabs: set[Tab] = set()
        self._has_begun, self._is_over = False, False

    async def answer(
        self, query: str, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Answers a GET of PATH: with a stream that goes on; 401 without a session, 503 where there
        are as many streams as may be. `headers`: by name in lower case. `query`: `call` is
        `ACCOUNT|CALL` for a page about one call; without it the stream is the first page's.
        """
        cookies = _cookies(headers.get("cookie", ""))
        pass_ = _Pass(self._settings, cookies.get(sessions.COOKIE))
        if pass_.session is None:
            await _refuse(send, 401, b"log in first\n")
        elif self._left <= 0:
            await _refuse(send, 503, b"as many tabs as may be are told already\n")
        else:
            self._left -= 1
            self._begin()
            try:
                tab = Tab(self._page(query, pass_.session, cookies))
                await self._stream(tab, pass_, receive, send)
            finally:
                self._left += 1

    def _page(self, query: str, session: sessions.Session, cookies: Mapping[str, str]) -> Watched:
        """The page that the stream is about."""
        account, _, call_uuid = dict(parse_qsl(query)).get("call", "").partition("|")
        if call_uuid:
            return OneCall(account, call_uuid)
        asked = cookies.get(NUMBERS_COOKIE)
        shows_numbers = asked == "shown" if asked else self._settings().shows_numbers
        return FirstPage(session.acts, shows_numbers)

    async def _stream(self, tab: Tab, pass_: _Pass, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(lambda _: tab.news.set())
        self._tabs.add(tab)
        self._feed.join(tab)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
            await _say(send, b"retry: 2000\n\n")
            while not (gone.done() or self._is_over) and pass_.is_good():
                piece = tab.next(self._feed.frame(tab.page))
                if piece:
                    await _say(send, piece)
                    await asyncio.sleep(_EVERY_S)
                elif not await _set_within(tab.news, _SILENT_S):
                    await _say(send, b": still here\n\n")
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass  # the server closes the connection
        finally:
            self._feed.leave(tab)
            self._tabs.discard(tab)
            gone.cancel()

    def end(self) -> None:
        """Ends every stream within a second, on the event loop: the server ends, and would wait for
        them.
        """
        self._is_over = True
        for tab in self._tabs:
            tab.news.set()

    def _begin(self) -> None:
        """At the first stream: has all of them end with the process. Before that the server has no
        handlers of signals yet, and would put its own in the place of ours.
        """
        if self._has_begun:
            return
        self._has_begun = True
        loop = asyncio.get_running_loop()
        before: dict[int, Any] = {number: signal.getsignal(number) for number in _ENDS}

        def end_and_go_on(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.end)
            if callable(before[number]):
                before[number](number, frame)

        with contextlib.suppress(ValueError):  # not the main thread: whoever began it ends it
            for number in _ENDS:
                # The loop's own handler goes on: a byte tells it of each signal.
                signal.signal(number, end_and_go_on)
                signal.siginterrupt(number, False)


class _Pass:
    """The session of a stream, looked at again after a reload and each minute."""

    def __init__(self, settings: Callable[[], Settings], cookie: str | None) -> None:
        self._settings, self._cookie = settings, cookie
        self._looked_at, self._good_until = settings(), time.monotonic() + _LOOK_AGAIN_S
        self.session = sessions.of_cookie(self._looked_at, cookie)

    def is_good(self) -> bool:
        now = self._settings()
        if now is self._looked_at and time.monotonic() < self._good_until:
            return True
        self._looked_at, self._good_until = now, time.monotonic() + _LOOK_AGAIN_S
        return sessions.of_cookie(now, self._cookie) == self.session


async def _set_within(news: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, and clears it; False where it does not come in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
            news.clear()
            return True
    return False


async def _say(send: Send, piece: bytes) -> None:
    """Raises TimeoutError where the reader does not take it."""
    async with asyncio.timeout(_READER_S):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _refuse(send: Send, status: int, why: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _PLAIN})
    await send({"type": "http.response.body", "body": why, "more_body": False})


async def _gone(receive: Receive) -> None:
    """Returns when the reader has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _cookies(header: str) -> dict[str, str]:
    """The cookies of a request, by name; none where the header cannot be read."""
    jar: SimpleCookie = SimpleCookie()
    with contextlib.suppress(CookieError):
        jar.load(header)
    return {name: morsel.value for name, morsel in jar.items()}
