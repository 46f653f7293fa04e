"""The address of a Redis: what is refused, how it is spelled for each client, and both of them over
TLS."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from tests.ledger.servers import check
from worker.errors import SettingsError
from worker.ledger import redis_url
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.celery_app import make_celery
from worker.settings import Settings

GOOD = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "t",
    "REDIS_URL": "redis://127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
    "ENDTAPE_API_KEY": "b" * 16,
}
SPELLED = [
    ("redis://h", "redis://h/0", "redis://h/0"),
    ("redis://h:1/2", "redis://h:1/2", "redis://h:1/2"),
    ("redis://[::1]:1/2", "redis://[::1]:1/2", "redis://[::1]:1/2"),
    ("redis://:p%40s@h/1", "redis://:p%40s@h/1", "redis://:p%40s@h/1"),
    ("redis://h?db=3&password=a%2Fb", "redis://:a%2Fb@h/3", "redis://:a%2Fb@h/3"),
    ("unix:///run/r.sock", "unix:///run/r.sock?db=0", "redis+socket:///run/r.sock?virtual_host=0"),
    (
        "unix://u:p@/run/r.sock?db=2",
        "unix://u:p@/run/r.sock?db=2",
        "redis+socket://u:p@/run/r.sock?virtual_host=2",
    ),
    # kombu verifies nothing unless it is told to.
    ("rediss://h/0", "rediss://h/0", "rediss://h/0?ssl_cert_reqs=CERT_REQUIRED"),
    *(
        (
            f"rediss://h/0?ssl_cert_reqs={said}",
            "rediss://h/0?ssl_cert_reqs=none",
            "rediss://h/0?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false",
        )
        for said in ("CERT_NONE", "none", "cert_none", "None")
    ),
    (
        "rediss://h/0?ssl_cert_reqs=optional&ssl_check_hostname=False",
        "rediss://h/0?ssl_cert_reqs=optional&ssl_check_hostname=false",
        "rediss://h/0?ssl_cert_reqs=CERT_OPTIONAL&ssl_check_hostname=false",
    ),
]


@pytest.mark.parametrize(("given", "redis_py", "kombu"), SPELLED)
def test_an_address_of_redis_is_spelled_as_each_of_its_clients_understands_it(
    tmp_path, given, redis_py, kombu
):
    for name in ("REDIS_URL", "CELERY_BROKER_URL"):
        Settings.from_env({**GOOD, name: given}, folder=tmp_path)
    found = redis_url.parse(given)
    assert (found.for_redis(), found.for_celery()) == (redis_py, kombu)
    assert redis_url.parse(found.for_redis()) == found
    with connect(given) as client:
        client.connection_pool.make_connection()  # takes what it is given


@pytest.mark.parametrize(
    "wrong",
    [
        "rediss://h/x",
        "redis://h/0/1",
        "redis://h/-1",
        "redis://h:x/0",
        "redis://h:0/0",
        "redis://:hunter2@/0",
        "redis://:hun/ter2@h/0",
        "redis://h/0#hunter2",
        "redis://h?db=x",
        "rediss://h/0?ssl_cert_reqs=maybe",
        "rediss://h/0?ssl_check_hostname=perhaps",
        "redis://h/0?ssl_cert_reqs=none",
        "unix:///x?ssl_cert_reqs=none",
        "rediss://h/0?ssl_ca_certs=/no/such/file",
        "rediss://h/0?ssl_certs=none",
        "redis://h/0?socket_timeout=5",
        "unix://h/x",
        "unix:///",
        "redis://h/0?db=1&db=2",
        "redis://[::1/0",
        "redis://h/99999",
    ],
)
def test_an_address_of_redis_that_one_of_its_clients_would_not_understand_is_refused_at_once(
    tmp_path, wrong
):
    for name in ("REDIS_URL", "CELERY_BROKER_URL"):
        with pytest.raises(SettingsError) as caught:
            Settings.from_env({**GOOD, name: wrong}, folder=tmp_path)
        assert (
            (
                len(caught.value.problems),
                caught.value.problems[0].startswith(f"{name} = (secret): must"),
            )
            == (1, True)
            or "ssl_" in str(caught.value)
            or "parameter" in str(caught.value)
        )
        assert "hun" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Made by ourselves, for this machine; nobody else knows it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def tls(redis_server, certificate):
    """The port of a Redis that speaks TLS: whatever the server itself was built with, this stands
    in front of it."""
    how = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    how.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listening = socket.create_server(("127.0.0.1", 0))

    def carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(plain):
        with (
            contextlib.suppress(OSError),
            how.wrap_socket(plain, server_side=True) as client,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.connect(str(redis_server.socket))
            threading.Thread(target=carry, args=(server, client), daemon=True).start()
            carry(client, server)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


def works(url, queue):
    """Whether both clients reach the server under this address."""
    try:
        with connect(url) as client:
            Ledger(client).prepare()
        with make_celery(url, publisher=True).connection_for_write() as connection:
            connection.connect()
            channel = connection.channel()
            channel.client.ping()
            channel.client.connection_pool.disconnect()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_both_clients_speak_tls_under_every_spelling_that_is_accepted(tls, certificate, tmp_path):
    trusted = f"ssl_ca_certs={certificate / 'cert.pem'}"
    for query in (
        "ssl_cert_reqs=CERT_NONE",
        "ssl_cert_reqs=none",
        trusted,
        f"{trusted}&ssl_cert_reqs=CERT_REQUIRED",
        f"{trusted}&ssl_cert_reqs=optional",
    ):
        url = f"rediss://localhost:{tls}/0?{query}"
        Settings.from_env({**GOOD, "REDIS_URL": url}, folder=tmp_path)
        assert works(url, "stops") == "", query
    by_number = f"rediss://127.0.0.1:{tls}/0?{trusted}"
    assert "certificate" in works(by_number, "stops")  # it is not made for that name
    assert works(f"{by_number}&ssl_check_hostname=false", "stops") == ""


def test_a_certificate_that_nobody_vouches_for_is_refused_by_both_clients_and_at_the_start_with_the_way_out(
    tls, tmp_path
):
    url = f"rediss://localhost:{tls}/0"
    with pytest.raises(Exception, match="certificate"), connect(url) as client:
        client.ping()
    with (
        pytest.raises(Exception, match="certificate"),
        make_celery(url, publisher=True).connection_for_write() as connection,
    ):
        connection.channel().client.ping()
    with pytest.raises(SettingsError, match=r"REDIS_URL = \(secret\): .*ssl_ca_certs"):
        check(Settings.from_env({**GOOD, "REDIS_URL": url}, folder=tmp_path))
