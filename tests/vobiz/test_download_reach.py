"""Which address a download dials and under which name, and that nothing in the environment has a
say in it."""

import io
import os
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pycurl
import pytest

from worker.errors import TryAgain, WrongPath
from worker.vobiz import loop, transport
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.piece import Hooks

ACCOUNT = Account(auth_id="MA_1", tokens=("secret",))
HOOKS = Hooks(keep_going=lambda: None)


class Media(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.hosts.append(self.headers["Host"])
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"audio")

    def log_message(self, *_):
        pass


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def serve():
    servers = []

    def start(tls=None, at="127.0.0.1", port=0):
        server = (ThreadingHTTPServer if ":" not in at else Server6)((at, port), Media)
        server.handle_error = lambda *_: (
            None
        )  # we reset connections, which it would tell with a traceback
        server.hosts = []
        if tls:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate for media.example.test that vouches for itself: its file, and a TLS context
    that shows it."""
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl program")
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=media.example.test",
            "-addext",
            "subjectAltName=DNS:media.example.test,DNS:localhost",
            "-keyout",
            place / "key.pem",
            "-out",
            place / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    return str(place / "cert.pem"), context


def fetch(url, *, media, **more):
    sink = io.BytesIO()
    client = Vobiz(
        api_url="http://127.0.0.1:1",
        media_hosts=media,
        redirect_hosts=[],
        max_media_bytes=100,
        **more,
    )
    client.download(ACCOUNT, url, sink, HOOKS)
    return sink.getvalue()


def test_a_resolver_that_changes_its_mind_is_asked_once(serve):
    server = serve()
    answers = [["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]]
    netloc = f"media.test:{server.server_port}"
    assert (
        fetch(f"http://{netloc}/x", media=[netloc], resolve=lambda *_: answers.pop(0)) == b"audio"
    )
    assert len(answers) == 2
    assert server.hosts == [netloc]


def test_the_next_address_is_dialled_when_one_does_not_answer(serve):
    server = serve()
    netloc = f"media.test:{server.server_port}"
    assert (
        fetch(f"http://{netloc}/x", media=[netloc], resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
        == b"audio"
    )


def test_tls_is_spoken_with_the_name_and_dialled_by_the_number(serve, authority):
    ca_file, context = authority
    names = []
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    server = serve(context)
    netloc = f"media.example.test:{server.server_port}"
    assert (
        fetch(
            f"https://{netloc}/x", media=[netloc], resolve=lambda *_: ["127.0.0.1"], ca_file=ca_file
        )
        == b"audio"
    )
    assert (names, server.hosts) == (["media.example.test"], [netloc])


@pytest.mark.parametrize(
    ("name", "trusted"), [("other.example.test", True), ("media.example.test", False)]
)
def test_a_certificate_of_another_name_or_of_nobody_is_refused(serve, authority, name, trusted):
    ca_file, context = authority
    server = serve(context)
    netloc = f"{name}:{server.server_port}"
    with pytest.raises(TryAgain, match=r"(?i)certificate"):
        fetch(
            f"https://{netloc}/x",
            media=[netloc],
            resolve=lambda *_: ["127.0.0.1"],
            ca_file=ca_file if trusted else None,
        )
    assert server.hosts == []


def test_a_private_address_behind_a_pattern_is_a_matter_of_settings():
    with pytest.raises(WrongPath, match="VOBIZ_MEDIA_HOSTS"):
        fetch("https://media.vobiz.ai/x", media=["*.vobiz.ai"], resolve=lambda *_: ["192.168.1.4"])
    with pytest.raises(WrongPath, match="VOBIZ_MEDIA_HOSTS"):
        fetch("https://cdn.example.com/x", media=["*.vobiz.ai"])


def test_a_name_that_does_not_resolve_is_tried_again():
    def nowhere(_host, _port):
        raise OSError("no such name")

    with pytest.raises(TryAgain, match="no such name"):
        fetch("https://media.vobiz.ai/x", media=["*.vobiz.ai"], resolve=nowhere)


def test_proxies_netrc_and_certificate_variables_have_no_effect(serve, monkeypatch, tmp_path):
    trap, server = serve(), serve()
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    proxy = f"http://127.0.0.1:{trap.server_port}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    api = f"http://127.0.0.1:{server.server_port}"
    client = Vobiz(api_url=api, media_hosts=["127.0.0.1"], redirect_hosts=[], max_media_bytes=100)
    client.download(ACCOUNT, f"{api}/x", io.BytesIO(), HOOKS)
    assert client.live_call(ACCOUNT, "c-1")
    assert (len(server.hosts), trap.hosts) == (2, [])


def test_a_certificate_file_of_the_environment_vouches_for_nobody(
    serve, authority, monkeypatch, tmp_path
):
    ca_file, context = authority
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    netloc = f"media.example.test:{serve(context).server_port}"
    with pytest.raises(TryAgain, match=r"(?i)certificate"):
        fetch(f"https://{netloc}/x", media=[netloc], resolve=lambda *_: ["127.0.0.1"])


def test_a_request_of_the_api_goes_to_a_host_whose_certificate_counts(
    serve, authority, monkeypatch
):
    ca_file, context = authority
    server = serve(context)

    def ask(host):
        client = Vobiz(
            api_url=f"https://{host}:{server.server_port}",
            media_hosts=[],
            redirect_hosts=[],
            max_media_bytes=100,
        )
        return client.live_call(ACCOUNT, "c-1")

    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, ca_file)
    with pytest.raises(TryAgain, match=r"(?i)certificate"):
        ask("localhost")
    monkeypatch.setattr(loop, "DEFAULT_CA_BUNDLE_PATH", ca_file)
    monkeypatch.setattr(loop, "_loop", None)  # its handles know the certificates of before
    with pytest.raises(TryAgain, match=r"(?i)certificate"):
        ask("127.0.0.1")
    assert server.hosts == []
    assert ask("localhost")


def test_each_connection_is_resolved_and_vetted_again(serve):
    first, second = serve(), serve(at="127.0.0.2")
    netloc = f"media.test:{first.server_port}"
    second.server_close()
    second = serve(at="127.0.0.2", port=first.server_port)
    answers = [["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]]
    client = Vobiz(
        api_url="http://127.0.0.1:1",
        media_hosts=[netloc],
        redirect_hosts=[],
        max_media_bytes=100,
        resolve=lambda *_: answers.pop(0),
    )
    for _ in range(2):
        client.download(ACCOUNT, f"http://{netloc}/x", io.BytesIO(), HOOKS)
    assert (len(first.hosts), len(second.hosts)) == (1, 1)
    with pytest.raises(WrongPath, match="loopback"):
        client.download(ACCOUNT, f"http://{netloc}/x", io.BytesIO(), HOOKS)


def test_an_address_in_numbers_of_either_kind_is_dialled(serve):
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    server = serve(at="::1")
    assert fetch(f"http://[::1]:{server.server_port}/x", media=["::1"]) == b"audio"
    assert (
        fetch(
            f"http://media.test:{server.server_port}/x",
            media=[f"media.test:{server.server_port}"],
            resolve=lambda *_: ["::1"],
        )
        == b"audio"
    )
    assert server.hosts == [f"[::1]:{server.server_port}", f"media.test:{server.server_port}"]


def test_nothing_but_a_vetted_address_is_dialled_whatever_libcurl_makes_of_a_name(
    serve, monkeypatch
):
    server, careful = serve(), transport.prepare

    def misled(easy, request, run):
        careful(easy, request, run)
        easy.setopt(pycurl.RESOLVE, [f"media.test:{server.server_port}:127.0.0.1"])

    monkeypatch.setattr(transport, "prepare", misled)
    netloc = f"media.test:{server.server_port}"
    with pytest.raises(TryAgain, match="nobody vetted"):
        fetch(f"http://{netloc}/x", media=[netloc], resolve=lambda *_: ["127.0.0.5"])
    assert server.hosts == []


def test_a_process_that_was_forked_makes_its_own_handle(serve):
    server = serve()
    netloc = f"127.0.0.1:{server.server_port}"
    assert fetch(f"http://{netloc}/x", media=[netloc]) == b"audio"
    inherited = transport._handle()
    child = os.fork()
    if not child:
        try:
            os._exit(
                0
                if fetch(f"http://{netloc}/x", media=[netloc]) == b"audio"
                and transport._handle() is not inherited
                else 1
            )
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert transport._handle() is inherited
