"""The streams of the first page: what a tab is told, and what they never cost."""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import requests

from tests.constants import ACCOUNT, ENV, KEY, VIEW_KEY
from tests.waiting import until
from tests.webhooks.test_console import NASTY, runs
from webhooks.console import sessions, streams
from webhooks.console.feed import Feed, FirstPage, Frame, Parts, Tab
from webhooks.console.now import Now
from worker.calls.events import Event, Kind
from worker.calls.rules import Rules
from worker.catalogue.live import Live as LiveCalls
from worker.settings import Settings

KEYS = {"ENDTAPE_API_KEY": f"anna:{KEY},eve:eve-key-000000000001", "ENDTAPE_VIEW_KEY": VIEW_KEY}
REC = f"{ACCOUNT}|rec-1"


def logged_in(house, key=KEY, **cookies):
    """The cookies of a browser, as it sends them."""
    form = {"password": key}
    answer = requests.post(f"{house.base}/login", data=form, allow_redirects=False, timeout=5)
    return "; ".join(f"{k}={v}" for k, v in {**answer.cookies.get_dict(), **cookies}.items())


class Stream:
    """A tab with the first page: it collects what it is told, and when."""

    def __init__(self, house, cookies, query=""):
        host, _, port = house.base.removeprefix("http://").partition(":")
        self.told, self.at, self.is_over = [], [], False
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        head = f"GET /now/live{query} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n"
        self._socket.sendall(head.encode())
        self._lines = self._socket.makefile("rb")
        self.status = int(self._lines.readline().split()[1])
        self.headers = dict(
            line.decode().strip().lower().split(": ", 1)
            for line in iter(self._lines.readline, b"\r\n")
        )
        if self.status == 200:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError, ValueError):
            for line in iter(self._lines.readline, b"0\r\n"):  # the last chunk
                if not line:
                    break
                if line.startswith(b"data: "):
                    self.told.append(json.loads(line[6:]))
                    self.at.append(time.monotonic())
        self.is_over = True

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)


def threads():
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.end_to_end
def test_a_tab_is_told_what_changed_at_most_once_a_second_and_no_stream_holds_a_thread(local):
    house = local(rules='[defaults]\nmax_duration = "1h"\n', **KEYS)
    runs(house.ledger)
    before = threading.active_count()
    anna = logged_in(house)
    tab = Stream(house, anna)
    other = Stream(house, logged_in(house, VIEW_KEY, endtape_numbers="shown"))
    crowd = [Stream(house, anna) for _ in range(40)]
    until(lambda: all(one.told for one in (tab, other, *crowd)))
    readers = 2 + len(crowd)  # of this test
    assert threading.active_count() <= before + readers + 5  # the feed, and those of two logins
    assert "feed" in threads()
    whole, theirs = tab.told[0], other.told[0]
    assert set(whole) == {"at", "set", "rows"}
    assert {"trouble", "tiles", "more", "handoffs", "services", "charts", REC} == set(whole["set"])
    assert whole["rows"] == [REC]
    row = whole["set"][REC]
    assert ("Stop…" in row, "919840000001" in row) == (True, False)
    assert ("Stop…" in theirs["set"][REC], "919840000001" in theirs["set"][REC]) == (False, True)

    runs(house.ledger, "call-2", "rec-2")
    until(lambda: any("rec-2" in str(said.get("rows")) for said in tab.told))
    said = next(said for said in tab.told if "rec-2" in str(said.get("rows")))
    assert f"{ACCOUNT}|rec-2" in said["set"]
    assert REC not in said["set"]  # what did not change is not sent
    for i in range(3):
        runs(house.ledger, f"call-x{i}", f"rec-x{i}")
        until(lambda name=f"rec-x{i}": any(name in str(said.get("rows")) for said in tab.told))
    assert min(b - a for a, b in zip(tab.at, tab.at[1:], strict=False)) > 0.9
    assert "<script" not in str(tab.told).replace(NASTY, "")

    for one in (tab, other, *crowd):
        one.close()
    until(lambda: "feed" not in threads())


def test_a_tab_is_told_what_changed_between_its_page_and_its_stream(local, monkeypatch):
    monkeypatch.setattr("webhooks.console.feed._AT_LEAST_S", 60)
    house = local(rules='[defaults]\nmax_duration = "1h"\n', **KEYS)
    anna = logged_in(house)
    page = requests.get(house.base, headers={"Cookie": anna}, timeout=5)
    assert page.status_code == 200
    runs(house.ledger)
    tab = Stream(house, anna)
    until(lambda: any(REC in said["set"] for said in tab.told))
    tab.close()


def test_a_stream_asks_for_a_session_and_ends_with_it(local, monkeypatch):
    monkeypatch.setattr(streams, "_LOOK_AGAIN_S", 0)
    house = local(**KEYS)
    assert requests.get(f"{house.base}/now/live", timeout=5).status_code == 401
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert requests.get(f"{house.base}/now/live", headers=bearer, timeout=5).status_code == 401
    forged = {"Cookie": f'{sessions.COOKIE}=x.y.z; a="\\'}
    assert requests.get(f"{house.base}/now/live", headers=forged, timeout=5).status_code == 401
    eve, anna = (Stream(house, logged_in(house, k)) for k in ("eve-key-000000000001", KEY))
    until(lambda: eve.told and anna.told)
    assert eve.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert eve.headers["cache-control"] == "no-store"
    monkeypatch.setattr(sessions, "LASTS_S", -1)
    runs(house.ledger)
    until(lambda: eve.is_over and anna.is_over)


def test_a_stream_is_over_once_its_key_is_taken_out_of_the_settings(ledger, tmp_path):
    def settings(keys):
        return Settings.from_env(
            {**ENV, "REDIS_URL": "redis://127.0.0.1:1", "ENDTAPE_API_KEY": keys}, folder=tmp_path
        )

    both, anna = f"anna:{KEY},eve:eve-key-000000000001", f"anna:{KEY}"
    in_force = [settings(both)]
    cookies = [sessions.opened(in_force[0], key, "") for key in (KEY, "eve-key-000000000001")]
    passes = [streams._Pass(lambda: in_force[0], cookie) for cookie in cookies]
    assert [one.is_good() for one in passes] == [True, True]
    in_force[0] = settings(anna)
    assert [one.is_good() for one in passes] == [True, False]


def test_beyond_the_bound_a_tab_is_refused_and_a_place_is_free_again_when_one_goes(
    local, monkeypatch
):
    monkeypatch.setattr(streams.Streams.__init__, "__kwdefaults__", {"most": 2})
    house = local(**KEYS)
    anna = logged_in(house)
    first, second = Stream(house, anna), Stream(house, anna)
    assert (first.status, second.status, Stream(house, anna).status) == (200, 200, 503)
    first.close()
    until(lambda: Stream(house, anna).status == 200)


def test_a_page_about_one_call_is_told_when_the_call_changed_and_of_no_other(local):
    house = local(rules='[defaults]\nmax_duration = "1h"\n', **KEYS)
    runs(house.ledger)
    anna = logged_in(house)
    for path in ("/recordings/rec-1", "/calls/call-1"):
        page = requests.get(house.base + path, headers={"Cookie": anna}, timeout=5).text
        ((address, size),) = re.findall(r'data-stream="/now/live([^"]+)" data-size="(\d+)"', page)
        assert int(size) == house.ledger.size(ACCOUNT, "call-1")
    tab = Stream(house, anna, address)
    until(lambda: tab.told)
    other = Stream(house, anna)
    runs(house.ledger, "call-2", "rec-2")
    until(lambda: any("rec-2" in str(said.get("rows")) for said in other.told))
    assert [said["set"] for said in tab.told] == [{"size": size}]
    over = Event(id="over", kind=Kind.CALL_ENDED, call_uuid="call-1", signed=True)
    house.ledger.record(ACCOUNT, over)
    until(lambda: int(tab.told[-1]["set"]["size"]) > int(size))
    tab.close()
    other.close()


# What a tab is told next
# ------------------------------------------------------------------------------------------------


def frame(number):
    whole, change = b"whole %d" % number, b"change %d" % number
    return Frame(number=number, whole=whole, change=change, parts=Parts(at="", html={}, rows=()))


def test_a_tab_that_missed_a_frame_gets_the_whole_page():
    tab = Tab(FirstPage(acts=True, shows_numbers=False), news=None)
    said = [tab.next(f) for f in (None, frame(0), frame(0), frame(1), frame(3), frame(0))]
    assert said == [None, b"whole 0", None, b"change 1", b"whole 3", b"whole 0"]


def test_a_store_that_is_away_is_told_once_and_the_whole_page_once_it_is_back(monkeypatch):
    monkeypatch.setattr("webhooks.console.feed._AGAIN_S", 0)
    handed = []
    loop = SimpleNamespace(call_soon_threadsafe=lambda tell, pages: handed.append(pages))
    page = FirstPage(acts=True, shows_numbers=False)
    parts = Parts(at="now", html={"tiles": "<b>"}, rows=())
    feed = Feed(None, lambda _: parts, lambda: 0)
    feed._tabs.add(Tab(page, news=None))
    tab = Tab(page, news=None)
    assert feed._make(page)
    assert not feed._make(page)
    tab.next(feed.frame(page))
    feed._say_away(loop)
    feed._say_away(loop)
    assert handed == [{page}]
    assert tab.next(feed.frame(page)) == b'data: {"away": true}\n\n'
    assert feed._make(page)
    said = json.loads(tab.next(feed.frame(page)).removeprefix(b"data: "))
    assert said == {"at": "now", "set": {"tiles": "<b>"}, "rows": []}


def test_a_tab_that_comes_while_the_last_one_goes_is_told_by_one_thread(monkeypatch):
    closes, may_close = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def changes(_ledger):
        yield SimpleNamespace(listen=int, rest=int, wait=lambda _: time.sleep(0.001))
        closes.set()
        may_close.wait()

    monkeypatch.setattr("webhooks.console.feed.changes", changes)
    monkeypatch.setattr("webhooks.console.feed._EVERY_S", 0.001)
    page = FirstPage(acts=True, shows_numbers=False)
    parts = Parts(at="now", html={"tiles": "<b>"}, rows=())
    feed = Feed(None, lambda _: parts, lambda: 0)

    before = set(threading.enumerate())

    def telling():
        return {one for one in set(threading.enumerate()) - before if one.name == "feed"}

    async def play():
        first, second = Tab(page), Tab(page)
        feed.join(first)
        await first.news.wait()
        feed.leave(first)
        await asyncio.to_thread(closes.wait)
        feed.join(second)
        found = telling()
        may_close.set()
        await second.news.wait()
        feed.leave(second)
        return len(found)

    assert asyncio.run(play()) == 1
    until(lambda: not telling())


@pytest.mark.parametrize(
    ("header", "cookies"),
    [("", {}), ("a=1; b=2", {"a": "1", "b": "2"}), ("endtape_session=x.y-z_; \xff=1", {})],
)
def test_cookies_that_cannot_be_read_are_none(header, cookies):
    found = streams._cookies(header)
    assert found == cookies or set(found) <= {"endtape_session"}


def test_a_page_has_the_last_board_while_the_streams_make_the_next_one_patiently(ledger, tmp_path):
    runs(ledger)
    settings = Settings.from_env({**ENV, "REDIS_URL": "redis://127.0.0.1:1"}, folder=tmp_path)
    now = Now(ledger, lambda: settings, LiveCalls(ledger, Rules), listing=None)
    first, began, go_on, made = now.board(), threading.Event(), threading.Event(), []
    until(lambda: now.due_in() < 0)

    def breathe():
        began.set()
        assert go_on.wait(20)

    maker = threading.Thread(target=lambda: made.append(now.board(breathe)))
    maker.start()
    assert began.wait(20)
    assert now.board() is first
    go_on.set()
    maker.join()
    assert made[0] is not first
    assert now.board() is made[0]
