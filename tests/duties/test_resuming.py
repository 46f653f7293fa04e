"""A download that was cut off goes on where it was cut, if the host says that it can; in doubt it
begins anew."""

import contextlib
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.waiting import until
from worker.archive.filing import Archive
from worker.errors import CorruptMedia, NotReady, TryAgain, Unstored
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.partial import Notes
from worker.vobiz.piece import CorruptDownload, Hooks
from worker.vobiz.transport import Patience

BODY = os.urandom(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
ACCOUNT = Account(auth_id="MA_1", tokens=("secret",))
OLD, NOW = "Mon, 14 Sep 2026 02:30:00 GMT", "Mon, 14 Sep 2026 02:31:00 GMT"


class Host:
    """A media host that knows ranges. Each answer is cut after the next of `cuts`; `odd` bends the
    next answers to a Range."""

    def __init__(self, **settings):
        self.body, self.etag, self.more, self.cuts, self.odd = BODY, '"v1"', {}, [], []
        self.chunked = self.silent = False
        vars(self).update(settings)
        self.asked, self.given = [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.netloc = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.netloc}/v1/r.mp3?token=t1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            sent = dict(re.findall(r"^([\w-]+): (.*)\r$", request.decode(), re.MULTILINE))
            self.asked.append((sent.get("Range"), sent.get("If-Range")))
            with contextlib.suppress(OSError):
                self._answer(connection, sent)

    def _answer(self, connection, sent):
        start, status, headers = (
            0,
            "200 OK",
            {"Accept-Ranges": "bytes"} | ({"ETag": self.etag} if self.etag else {}) | self.more,
        )
        found = re.fullmatch(r"bytes=(\d+)-", sent.get("Range", ""))
        if found and sent["If-Range"] in {self.etag, self.more.get("Last-Modified")}:
            start, status = int(found[1]), "206 Partial Content"
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        if found and self.odd:
            status, start, headers = self.odd.pop(0)(status, start, headers)
        body = self.body[start:]
        headers |= (
            {"Transfer-Encoding": "chunked"}
            if self.chunked
            else {"Content-Length": len(body)}
            if "Content-Length" not in headers
            else {}
        )
        head = (
            f"HTTP/1.1 {status}\r\n"
            + "".join(
                f"{name}: {value}\r\n" for name, value in headers.items() if value is not None
            )
            + "\r\n"
        )
        cut = self.cuts.pop(0) if self.cuts else None
        part = body[:cut]
        self.given += len(part)
        raw = (
            b"%x\r\n%b\r\n" % (len(part), part) + (b"" if cut is not None else b"0\r\n\r\n")
            if self.chunked
            else part
        )
        connection.sendall(head.encode() + raw)
        if self.silent and cut is not None:
            until(lambda: self._gone(connection))

    @staticmethod
    def _gone(connection):
        connection.settimeout(0.05)
        try:
            return connection.recv(1) == b""
        except TimeoutError:
            return False

    def close(self):
        self._listener.close()


@pytest.fixture
def serve():
    hosts = []

    def start(**settings):
        hosts.append(Host(**settings))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


def download(host, sink, **more):
    client = Vobiz(
        api_url="http://127.0.0.1:1",
        media_hosts=[host.netloc],
        redirect_hosts=[],
        max_media_bytes=more.pop("max_bytes", 1 << 20),
    )
    url = more.pop("url", host.url)
    known = {
        name: more.pop(name) for name in ("keep_going", "announced", "follower") if name in more
    }
    hooks = Hooks(**{"keep_going": lambda: None, **known})
    return client.download(ACCOUNT, url, sink, hooks, **more)


def whole(host, **more):
    """What one try brings, checked to be all of it."""
    sink = io.BytesIO()
    got = download(host, sink, **more)
    assert sink.getvalue() == host.body
    assert (got.bytes, got.sha256, got.declared_bytes) == (
        len(host.body),
        hashlib.sha256(host.body).hexdigest(),
        len(host.body),
    )
    return got


# ── within a try ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_cut_goes_on_where_it_was_cut_and_the_digest_is_that_of_the_whole(serve):
    announced = []
    host = serve(cuts=[100_000, 1, 150_000])
    whole(host, announced=announced.append)
    assert host.asked == [
        (None, None),
        ("bytes=100000-", '"v1"'),
        ("bytes=100001-", '"v1"'),
        ("bytes=250001-", '"v1"'),
    ]
    assert (host.given, announced) == (len(BODY), [300_000, 200_000, 199_999, 49_999])


def test_chunks_without_a_length_go_on_too(serve):
    host = serve(chunked=True, cuts=[100_000])
    whole(host)
    assert host.given == len(BODY)


def test_a_date_that_is_older_than_its_second_is_as_good_as_an_etag(serve):
    host = serve(etag=None, more={"Last-Modified": OLD, "Date": NOW}, cuts=[100_000])
    whole(host)
    assert host.asked[1] == ("bytes=100000-", OLD)


WEAK = {
    "no ranges": {"more": {"Accept-Ranges": None}},
    "ranges refused": {"more": {"Accept-Ranges": "none"}},
    "weak tag": {"etag": 'W/"v1"'},
    "no tag": {"etag": None},
    "tag without quotes": {"etag": "v1"},
    "weak tag beside a date": {"etag": 'W/"v1"', "more": {"Last-Modified": OLD, "Date": NOW}},
    "young date": {"etag": None, "more": {"Last-Modified": OLD, "Date": OLD}},
    "no clock": {"etag": None, "more": {"Last-Modified": OLD}},
    "no date": {"etag": None, "more": {"Last-Modified": "yesterday", "Date": NOW}},
}


@pytest.mark.parametrize("settings", WEAK.values(), ids=WEAK)
def test_where_the_host_does_not_say_that_it_can_nothing_is_continued(serve, settings):
    host = serve(cuts=[100_000], **settings)
    with pytest.raises(CorruptDownload) as caught:
        download(host, io.BytesIO())
    assert (caught.value.check, caught.value.got.bytes) == ("length", 100_000)
    assert host.asked == [(None, None)]


def other(status=None, start=None, **headers):
    """An answer to a Range that is not the one that was asked for."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda old, at, had: (status or old, at if start is None else start, had | named)


MISFITS = {
    "begins later": other(Content_Range="bytes 100001-299999/300000"),
    "begins earlier": other(Content_Range="bytes 0-299999/300000"),
    "longer file": other(Content_Range="bytes 100000-300000/300001"),
    "shorter file": other(Content_Range="bytes 100000-199999/200000"),
    "past the end": other(Content_Range="bytes 100000-300000/300000"),
    "no range told": other(Content_Range=None),
    "other unit": other(Content_Range="blocks 100000-299999/300000"),
    "backwards": other(Content_Range="bytes 100000-5/300000"),
    "other length": other(Content_Range="bytes 100000-299998/300000"),
    "not satisfiable": other("416 X", 300_000, Content_Range="bytes */300000"),
    "other tag": other(ETag='"v2"'),
    "tag gone weak": other(ETag='W/"v1"'),
    "no tag": other(ETag=None),
    "many parts": other(Content_Range=None, Content_Type="multipart/byteranges; boundary=x"),
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
def test_a_piece_that_does_not_fit_begins_anew(serve, misfit):
    host = serve(cuts=[100_000], odd=[misfit])
    whole(host)
    assert host.asked == [(None, None), ("bytes=100000-", '"v1"'), (None, None)]


def test_another_date_begins_anew(serve):
    host = serve(
        etag=None,
        more={"Last-Modified": OLD, "Date": NOW},
        cuts=[100_000],
        odd=[other(Last_Modified=NOW)],
    )
    whole(host)
    assert host.asked == [(None, None), ("bytes=100000-", OLD), (None, None)]


def test_a_host_that_sends_all_instead_begins_anew_with_that_answer(serve):
    host = serve(cuts=[100_000], odd=[other("200 OK", 0, Content_Range=None)])
    whole(host)
    assert len(host.asked) == 2


def test_a_host_that_ignores_ranges_is_not_asked_for_one_again(serve):
    host = serve(cuts=[100_000, 50_000], odd=[other("200 OK", 0, Content_Range=None)] * 2)
    with pytest.raises(CorruptDownload) as caught:
        download(host, io.BytesIO())
    assert (len(host.asked), caught.value.got.bytes) == (2, 50_000)


def test_a_file_that_changed_begins_anew_and_can_be_continued_itself(serve):
    host = serve(cuts=[100_000, 40_000])

    def changed(*answer):
        host.body, host.etag = BODY[::-1], '"v2"'
        return "200 OK", 0, {"Accept-Ranges": "bytes", "ETag": '"v2"'}

    host.odd = [changed]
    whole(host)
    assert host.asked == [(None, None), ("bytes=100000-", '"v1"'), ("bytes=40000-", '"v2"')]


def test_a_shorter_piece_than_asked_for_is_only_a_step(serve):
    host = serve(
        cuts=[100_000, 50_000],
        odd=[other(Content_Range="bytes 100000-149999/300000", Content_Length=50_000)],
    )
    whole(host)
    assert host.asked[2] == ("bytes=150000-", '"v1"')


def test_a_piece_that_brings_nothing_ends_the_try_as_a_cut(serve):
    host, sink = serve(cuts=[100_000, 0]), io.BytesIO()
    with pytest.raises(CorruptDownload) as caught:
        download(host, sink)
    assert (caught.value.got.bytes, caught.value.got.sha256) == (
        100_000,
        hashlib.sha256(BODY[:100_000]).hexdigest(),
    )
    assert sink.getvalue() == BODY[:100_000]


def test_a_host_that_cuts_for_ever_ends_the_try(serve):
    host = serve(cuts=[1000] * 100)
    with pytest.raises(TryAgain, match="cut off 20 times"):
        download(host, io.BytesIO())
    assert len(host.asked) == 20


def test_the_limit_holds_for_all_pieces_together(serve):
    sink = io.BytesIO()
    with pytest.raises(CorruptMedia) as caught:
        download(serve(cuts=[100_000]), io.BytesIO(), max_bytes=200_000)
    assert caught.value.check == "size"
    with pytest.raises(CorruptMedia) as caught:  # the length is told by the second piece only
        download(serve(chunked=True, cuts=[100_000]), sink, max_bytes=200_000)
    assert (caught.value.check, len(sink.getvalue())) == ("size", 100_000)


def test_a_packed_piece_is_refused(serve):
    with pytest.raises(CorruptMedia) as caught:
        download(serve(cuts=[100_000], odd=[other(Content_Encoding="gzip")]), io.BytesIO())
    assert caught.value.check == "encoding"


class Follower:
    """What a follower has seen of the file since that last began."""

    def begin(self):
        self.seen = b""

    def add(self, block):
        self.seen += block


@pytest.mark.parametrize("odd", [[], [other(ETag='"v2"')]], ids=["continued", "begun anew"])
def test_a_follower_sees_the_very_bytes_of_the_file_however_they_came(serve, archive, odd):
    host, follower = serve(), Follower()
    stopped_at(archive, host, 1, 100_000)
    host.cuts, host.odd = [100_000], odd
    _, body = attempt(archive, host, 2, follower=follower)
    assert follower.seen == body == host.body


# ── from try to try ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "archive", tmp_path / "spool")


def attempt(archive, host, fence, **more):
    with archive.spool.part("rec-1", fence) as part:
        got = download(host, part.file, notes=part.notes, **more)
        return got, part.path.read_bytes()


def spool(archive):
    return sorted(path.name for path in archive.spool.place.iterdir())


def stopped_at(archive, host, fence, count, error=TryAgain, **more):
    """A try that falls silent after so many bytes."""
    host.cuts, host.silent = [count], True
    with pytest.raises(error):
        attempt(archive, host, fence, patience=Patience(within_s=0.3), **more)
    host.silent = False


def test_the_next_try_goes_on_and_nothing_is_left_behind(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    assert spool(archive) == [".rec-1.1.notes", ".rec-1.1.part"]
    stopped_at(archive, host, 2, 50_000)
    got, content = attempt(archive, host, 3)
    assert (got.sha256, got.bytes, content) == (SHA, 300_000, BODY)
    assert host.asked == [(None, None), ("bytes=100000-", '"v1"'), ("bytes=150000-", '"v1"')]
    assert (host.given, spool(archive)) == (300_000, [])


def test_another_token_in_the_address_is_the_same_file_and_is_never_written_down(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    assert b"t1" not in (archive.spool.place / ".rec-1.1.notes").read_bytes()
    assert (archive.spool.place / ".rec-1.1.notes").stat().st_mode & 0o077 == 0
    attempt(archive, host, 2, url=host.url.replace("token=t1", "token=t2"))
    assert host.given == 300_000


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


LEFT = {
    "other bytes": ("part", lambda data: data[:5000] + b"?" + data[5001:]),
    "zeroes at the end": ("part", lambda data: data[:-4096] + bytes(4096)),
    "bytes are gone": ("part", lambda data: data[:-1]),
    "the file is empty": ("part", lambda _: b""),
    "notes cut off": ("notes", lambda data: data[:-20]),
    "notes of nothing": ("notes", lambda _: b"null"),
    "no notes": ("notes", lambda _: b""),
    "other source": ("notes", lambda data: data.replace(b"/v1/r.mp3", b"/v1/s.mp3")),
    "other digest": ("notes", lambda data: data.replace(b'"sha256": "', b'"sha256": "0')),
    "other words": ("notes", lambda data: data.replace(b'"have": 1', b'"have": "1"')),
    "negative": ("notes", lambda data: data.replace(b'"have": 1', b'"have": -1')),
    "whole already": ("notes", lambda data: data.replace(b'"total": 300000', b'"total": 100000')),
}


@pytest.mark.parametrize(("kind", "change"), LEFT.values(), ids=LEFT)
def test_what_was_left_and_is_not_as_noted_is_begun_anew(serve, archive, kind, change):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    spoil(archive.spool.place / f".rec-1.1.{kind}", change)
    got, content = attempt(archive, host, 2)
    assert (got.sha256, content) == (SHA, BODY)
    assert host.asked[1] == (None, None)


def test_bytes_beyond_the_notes_are_asked_for_again(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    spoil(archive.spool.place / ".rec-1.1.part", lambda data: data + b"half a block")
    assert attempt(archive, host, 2)[1] == BODY
    assert host.asked[1] == ("bytes=100000-", '"v1"')


def test_a_file_of_other_length_or_tag_begins_anew_in_the_next_try(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    host.body, host.etag = BODY[:-1], '"v2"'
    assert attempt(archive, host, 2)[1] == BODY[:-1]
    assert host.asked[1:] == [("bytes=100000-", '"v1"')]


def test_what_cannot_be_continued_leaves_nothing(serve, archive):
    host = serve(etag=None)
    stopped_at(archive, host, 1, 100_000)
    assert spool(archive) == []


def test_an_answer_that_says_not_now_leaves_what_there_is(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    host.odd = [other("404 X"), other("503 X")]
    with pytest.raises(NotReady):
        attempt(archive, host, 2)
    with pytest.raises(TryAgain):
        attempt(archive, host, 3)
    assert attempt(archive, host, 4)[1] == BODY
    assert host.given == 300_000 + 2 * 200_000  # with two bodies of error pages


def test_a_living_attempts_file_is_left_to_it(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    with archive.spool.part("rec-1", 2) as first, archive.spool.part("rec-1", 3) as second:
        assert (first.path.name, second.path.name) == (".rec-1.1.part", ".rec-1.3.part")
        os.utime(first.path, (0, 0))
        assert archive.spool.sweep(1000) == 0


def test_a_file_that_lies_in_the_archive_already_is_never_written_to(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    part, kept = archive.spool.place / ".rec-1.1.part", archive.spool.place / "kept"
    os.link(part, kept)
    attempt(archive, host, 2)
    assert kept.read_bytes() == BODY[:100_000]
    assert host.asked[1] == (None, None)


def test_only_the_youngest_of_several_is_continued_and_the_rest_goes(serve, archive):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    for name in ("part", "notes"):
        (archive.spool.place / f".rec-1.7.{name}").write_bytes(
            (archive.spool.place / f".rec-1.1.{name}").read_bytes()
        )
    os.utime(archive.spool.place / ".rec-1.1.part", (1, 1))
    attempt(archive, host, 8)
    assert spool(archive) == []
    assert host.given == 300_000


def test_what_waits_to_be_continued_makes_room_before_the_disk_is_full(serve, archive, monkeypatch):
    host = serve()
    stopped_at(archive, host, 1, 100_000)
    free = iter([0, 1 << 40, 0, 0])
    monkeypatch.setattr(Archive, "free_bytes", lambda _self: next(free))
    archive.reserve(1000)
    assert spool(archive) == []
    with pytest.raises(Unstored):
        archive.reserve(1000)


DYING = """
import sys
from pathlib import Path
from worker.archive.filing import Archive
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.piece import Hooks
place, netloc, url = sys.argv[1:]
client = Vobiz(api_url="http://127.0.0.1:1", media_hosts=[netloc], redirect_hosts=[], max_media_bytes=1 << 20)
with Archive(Path(place) / "archive", Path(place) / "spool").spool.part("rec-1", 1) as part:
    client.download(Account(auth_id="MA_1", tokens=("secret",)), url, part.file, Hooks(keep_going=lambda: None), notes=part.notes)
"""


def test_a_worker_that_is_killed_leaves_what_the_next_one_goes_on_with(serve, archive, tmp_path):
    host = serve()
    slow = threading.Event()
    answer = host._answer

    def dripping(connection, sent):
        head = f"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nETag: {host.etag}\r\nContent-Length: {len(BODY)}\r\n\r\n"
        connection.sendall(head.encode())
        for at in range(0, 200_000, 2000):
            connection.sendall(BODY[at : at + 2000])
            time.sleep(0.1)
        slow.set()

    host._answer = dripping
    worker = subprocess.Popen([sys.executable, "-c", DYING, tmp_path, host.netloc, host.url])
    notes = Notes(archive.spool.place / ".rec-1.1.notes")
    until(notes.read)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    have = notes.read().have
    assert not slow.is_set()
    host._answer = answer
    got, content = attempt(archive, host, 2)
    assert (got.sha256, content) == (SHA, BODY)
    assert host.asked[1] == (f"bytes={have}-", '"v1"')
    assert spool(archive) == []
