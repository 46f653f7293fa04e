"""Downloads over real sockets: what is complete, what is cut, what is bounded, and where
credentials go."""

import errno
import functools
import gzip
import hashlib
import io
import socket
import threading
import time

import pytest

from worker.errors import CorruptMedia, MediaRefused, NotReady, TryAgain
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.download import RedirectRefused
from worker.vobiz.piece import CorruptDownload, Hooks
from worker.vobiz.transport import Patience

BODY = bytes(range(256)) * 40
ACCOUNT = Account(
    auth_id="MA_1",
    tokens=("secret-new", "secret-old"),
    parent="MA_0",
    parent_tokens=("secret-parent",),
)


class Server:
    """Answers every connection by `script(connection, request)`; keeps the requests."""

    def __init__(self, script):
        self.requests, self._script = [], script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                self.requests.append(request.decode())
                self._script(connection, request.decode())
        except OSError:
            pass

    def close(self):
        self._listener.close()


def send(raw, connection, _request):
    connection.sendall(raw)


@pytest.fixture
def serve():
    servers = []

    def start(script):
        if isinstance(script, bytes):
            script = functools.partial(send, script)
        servers.append(Server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def reply(body=BODY, status="200 OK", headers="", length=None):
    length = len(body) if length is None else length
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: audio/mpeg\r\nContent-Length: {length}\r\n{headers}\r\n".encode()
        + body
    )


def redirect(to, status="302 Found"):
    return f"HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def vobiz(*, media=("127.0.0.1",), redirects=(), max_bytes=1 << 20, **more):
    return Vobiz(
        api_url="http://127.0.0.1:1/api/v1",
        media_hosts=media,
        redirect_hosts=redirects,
        max_media_bytes=max_bytes,
        **more,
    )


HOOKS = Hooks(keep_going=lambda: None)


def fetch(client, url, hooks=HOOKS, **more):
    sink = io.BytesIO()
    return client.download(ACCOUNT, url, sink, hooks, **more), sink.getvalue()


def test_a_whole_file_arrives_with_its_digest_and_its_length(serve):
    server = serve(reply())
    beats, announced = [], []
    got, body = fetch(
        vobiz(),
        f"{server.url}/v1/x.mp3?a=%2F",
        Hooks(keep_going=lambda: beats.append(1), announced=announced.append),
    )
    assert body == BODY
    assert (got.bytes, got.declared_bytes, got.hops) == (len(BODY), len(BODY), 0)
    assert (got.sha256, got.content_type) == (hashlib.sha256(BODY).hexdigest(), "audio/mpeg")
    assert beats
    assert announced == [len(BODY)]
    head = server.requests[0].lower()
    assert head.startswith("get /v1/x.mp3?a=%2f http/1.1")
    assert "x-auth-id: ma_1" in head
    assert "x-auth-token: secret-new" in head
    assert "accept-encoding: identity" in head
    assert f"host: 127.0.0.1:{server.port}" in head


def test_the_account_in_the_path_names_whose_credentials_are_sent(serve):
    server = serve(reply())
    fetch(vobiz(), f"{server.url}/v1/Account/MA_0/Recording/r.mp3")
    assert "X-Auth-ID: MA_0\r\nX-Auth-Token: secret-parent" in server.requests[0]


CUTS = {"nothing": 0, "one byte": 1, "half": len(BODY) // 2, "all but one": len(BODY) - 1}


@pytest.mark.parametrize("kept", CUTS.values(), ids=CUTS)
def test_a_body_cut_short_of_its_length_is_reported_with_what_came(serve, kept):
    with pytest.raises(CorruptDownload) as caught:
        fetch(vobiz(), serve(reply(BODY[:kept], length=len(BODY))).url)
    assert (caught.value.check, caught.value.got.bytes) == ("length", kept)
    assert caught.value.got.sha256 == hashlib.sha256(BODY[:kept]).hexdigest()


@pytest.mark.parametrize("kept", [*CUTS.values(), len(BODY)])
def test_a_chunked_body_without_its_last_chunk_is_cut(serve, kept):
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in [BODY[:kept][i : i + 999] for i in range(0, kept, 999)]
    )
    with pytest.raises(CorruptDownload) as caught:
        fetch(vobiz(), serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks).url)
    assert (caught.value.check, caught.value.got.bytes) == ("length", kept)


def test_a_chunked_body_with_its_last_chunk_is_whole_and_announces_no_length(serve):
    raw = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(BODY), BODY)
    )
    got, body = fetch(vobiz(), serve(raw).url)
    assert (body, got.declared_bytes) == (BODY, None)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\n"]
)
def test_no_bytes_and_no_length_are_a_cut_perhaps_in_the_headers(serve, head):
    with pytest.raises(CorruptDownload) as caught:
        fetch(vobiz(), serve(head).url)
    assert (caught.value.check, caught.value.got.bytes) == ("length", 0)


@pytest.mark.parametrize("kept", [1, len(BODY) // 2, len(BODY) - 1, len(BODY)])
def test_a_body_that_ends_with_the_connection_announces_no_length(serve, kept):
    got, body = fetch(vobiz(), serve(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:kept]).url)
    assert (body, got.declared_bytes) == (BODY[:kept], None)


def test_a_reset_in_mid_body_counts_as_a_cut(serve):
    def reset(connection, _request):
        connection.sendall(reply(BODY[:100], length=len(BODY)))
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with pytest.raises(CorruptDownload, match="100 bytes arrived"):
        fetch(vobiz(), serve(reset).url)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5, 6",
        "Content-Length: -1",
        "Content-Length: 1_0",
        "Content-Length: 5\r\nContent-Length: 6",
    ],
)
def test_a_length_that_cannot_be_read_is_no_length(serve, headers):
    with pytest.raises(TryAgain, match=r"(?i)length"):
        fetch(vobiz(), serve(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n12345".encode()).url)


def test_too_long_a_file_is_refused_before_it_is_read(serve):
    told = Hooks(keep_going=lambda: None, announced=lambda _: pytest.fail("announced"))
    with pytest.raises(CorruptMedia) as caught:
        fetch(vobiz(max_bytes=100), serve(reply()).url, told)
    assert caught.value.check == "size"


def test_no_more_than_the_limit_and_one_byte_is_written(serve):
    sink = io.BytesIO()
    with pytest.raises(CorruptDownload) as caught:
        vobiz(max_bytes=100).download(
            ACCOUNT, serve(b"HTTP/1.1 200 OK\r\n\r\n" + BODY).url, sink, HOOKS
        )
    assert (caught.value.check, len(sink.getvalue())) == ("size", 101)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: br\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ],
)
def test_a_packed_body_is_refused_unread(serve, headers):
    sink, bomb = io.BytesIO(), gzip.compress(bytes(10 << 20))
    with pytest.raises(CorruptMedia) as caught:
        vobiz().download(ACCOUNT, serve(reply(bomb, headers=headers)).url, sink, HOOKS)
    assert (caught.value.check, sink.getvalue()) == ("encoding", b"")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotReady),
        (409, NotReady),
        (425, NotReady),
        (401, MediaRefused),
        (403, MediaRefused),
        (429, TryAgain),
        (500, TryAgain),
        (503, TryAgain),
        (204, TryAgain),
        (206, TryAgain),
        (304, TryAgain),
        (410, TryAgain),
    ],
)
def test_what_a_status_means(serve, status, error):
    with pytest.raises(error) as caught:
        fetch(vobiz(), serve(reply(b"", f"{status} X")).url)
    assert type(caught.value) is error
    assert caught.value.status == status


def test_silence_garbage_and_closed_doors_are_tried_again(serve):
    for raw in (
        b"",
        b"HTTP/1.1 ",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ):
        with pytest.raises(TryAgain):
            fetch(vobiz(), serve(raw).url)
    with pytest.raises(TryAgain, match="refused"):
        fetch(vobiz(), "http://127.0.0.1:1/x")


def test_headers_without_end_are_given_up(serve):
    for line in (b"X: y\r\n", b"X: " + b"y" * 30_000 + b"\r\n"):

        def pour(connection, _request, line=line):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(line)

        with pytest.raises(TryAgain, match="headers"):
            fetch(vobiz(), serve(pour).url)


def test_what_alive_and_the_sink_raise_passes_through(serve):
    class Gone(Exception):
        pass

    def gone():
        raise Gone

    with pytest.raises(Gone):
        fetch(vobiz(), serve(reply()).url, Hooks(keep_going=gone))

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full") as caught:
        vobiz().download(ACCOUNT, serve(reply()).url, Full(), HOOKS)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["silent", "headers trickle", "body trickles", "endless body trickles"],
)
def test_a_trickle_is_silence_and_ends_the_try(serve, first):
    ended = threading.Event()

    def trickle(connection, _request):
        connection.sendall(first)
        while first and not ended.wait(0.1):
            connection.sendall(b"x")
        ended.wait(5)

    begun = time.monotonic()
    with pytest.raises(TryAgain, match="silent"):
        fetch(vobiz(), serve(trickle).url, patience=Patience(within_s=0.5, least_bytes=100))
    ended.set()
    assert 0.4 < time.monotonic() - begun < 3


@pytest.mark.parametrize("headers", ["", "Content-Length: 6000\r\n"])
def test_a_file_that_comes_steadily_comes_home_however_long_it_takes(serve, headers):
    def steady(connection, _request):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
        for _ in range(60):
            time.sleep(0.05)
            connection.sendall(b"x" * 100)

    begun = time.monotonic()
    _, body = fetch(vobiz(), serve(steady).url, patience=Patience(within_s=0.5, least_bytes=200))
    assert body == b"x" * 6000
    assert time.monotonic() - begun > 4 * 0.5


def test_a_disk_that_is_slow_is_not_taken_for_a_silent_host(serve):
    class Slow(io.BytesIO):
        def write(self, block):
            time.sleep(0.7)
            return super().write(block)

    body, sink = bytes(4 << 20), Slow()
    patience = Patience(within_s=0.5, least_bytes=8 << 20)
    vobiz(max_bytes=1 << 30).download(
        ACCOUNT, serve(reply(body)).url, sink, HOOKS, patience=patience
    )
    assert sink.getvalue() == body


# ── redirects ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_redirect_within_the_media_hosts_keeps_the_credentials(serve):
    end = serve(reply())
    got, body = fetch(vobiz(), serve(redirect(f"{end.url}/y")).url)
    assert (got.hops, body) == (1, BODY)
    assert "secret-new" in end.requests[0]


def test_a_redirect_host_never_sees_the_credentials(serve):
    end = serve(reply())
    start = serve(redirect(f"{end.url}/y?Signature=s"))
    client = vobiz(media=[f"127.0.0.1:{start.port}"], redirects=[f"127.0.0.1:{end.port}"])
    assert fetch(client, start.url)[1] == BODY
    assert "secret-new" in start.requests[0]
    assert "x-auth" not in end.requests[0].lower()
    assert "secret" not in end.requests[0]


def test_any_other_host_is_named_and_gets_no_connection(serve):
    other = serve(reply())
    start = serve(redirect(f"{other.url}/y"))
    with pytest.raises(RedirectRefused) as caught:
        fetch(vobiz(media=[f"127.0.0.1:{start.port}"]), start.url)
    assert caught.value.host == f"127.0.0.1:{other.port}"
    assert other.requests == []


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/x",
        "https://evil.example/",
        "//evil.example/",
        "file:///etc/passwd",
        "https://a@vobiz.ai/",
        "x\thttps://evil.example/",
        "https://vobiz.ai\\.evil.example/",
        "/x#y",
        "https://[::1",
    ],
)
def test_a_hostile_redirect_is_refused(serve, to):
    with pytest.raises(RedirectRefused):
        fetch(vobiz(resolve=lambda *_: pytest.fail("resolved")), serve(redirect(to)).url)


def test_a_redirect_into_the_private_network_under_a_listed_pattern_is_refused(serve):
    start = serve(redirect("https://cdn.example.com/x"))
    client = vobiz(redirects=["*.example.com"], resolve=lambda *_: ["10.0.0.5"])
    with pytest.raises(RedirectRefused, match=r"10\.0\.0\.5"):
        fetch(client, start.url)


def test_three_redirects_are_followed_and_no_fourth(serve):
    def step(connection, request):
        number = int(request.split()[1].lstrip("/"))
        connection.sendall(redirect(f"/{number - 1}") if number else reply())

    server = serve(step)
    assert fetch(vobiz(), f"{server.url}/3")[0].hops == 3
    with pytest.raises(TryAgain, match="3 redirects"):
        fetch(vobiz(), f"{server.url}/4")
    with pytest.raises(TryAgain, match="nowhere"):
        fetch(vobiz(), serve(reply(b"", "302 Found")).url)
