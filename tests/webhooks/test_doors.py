"""The two doors for the provider answer alike; and the one on the event loop waits for nothing but
its own record.
"""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from emulator import signing
from faults.proxy import Proxy
from tests.conftest import Behind
from tests.constants import ACCOUNT, CALLBACK_TOKEN, TOKEN
from tests.waiting import until
from webhooks.app import create_web
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.supervisor import free_port

DOOR = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
RING = b"Event=Ring&CallUUID=c1"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ODD = [
    ("GET", DOOR, b""),
    ("GET", f"{DOOR}/?tenant=7", b""),
    ("GET", f"{DOOR}?Event=Ring&CallUUID=c1", b""),
    ("HEAD", DOOR, b""),
    ("HEAD", f"{DOOR}x", b""),
    ("OPTIONS", DOOR, b""),
    ("PUT", DOOR, RING),
    ("DELETE", f"{DOOR}/dial", b""),
    ("POST", DOOR, b""),
    ("POST", DOOR, RING),
    ("POST", DOOR, b"x" * 65537),
    ("POST", f"{DOOR}x", b"x" * 65537),
    ("POST", f"/vobiz/MA_OTHER/{CALLBACK_TOKEN}", RING),
    ("POST", f"/vobiz/{ACCOUNT}", RING),
    ("POST", f"/vobiz/{ACCOUNT}/", RING),
    ("POST", f"/vobiz//{CALLBACK_TOKEN}", RING),
    ("POST", f"/vobiz/{ACCOUNT}//{CALLBACK_TOKEN}", RING),
    ("POST", f"//vobiz/{ACCOUNT}/{CALLBACK_TOKEN}", RING),
    ("POST", f"/vobiz/{ACCOUNT}%2F{CALLBACK_TOKEN}", RING),
    ("POST", f"/%76obiz/{ACCOUNT}/{CALLBACK_TOKEN}", RING),
    ("POST", f"{DOOR}/a%0Ab", RING),
    ("POST", f"{DOOR}/%ff", RING),
    ("POST", f"{DOOR}//", RING),
    ("POST", f"{DOOR}/call/c1", RING),
    ("POST", f"{DOOR}/call/c2", RING),
    ("POST", "/vobiz/", RING),
    ("VOBIZ", DOOR, RING),
]


@pytest.fixture(scope="module")
def doors(lasting):
    """The base of each door, before the same ledger."""
    house = lasting()
    web = create_web(house.settings, house.ledger, house._done)
    port = free_port()
    plain = Behind(web.application, None, web.open_pages, port)
    plain.start()
    yield house, f"http://127.0.0.1:{port}"
    plain.stop()


def answer(base, method, path, body, headers):
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=10)
    connection.request(method, path, body=body, headers={"Host": "x", **FORM, **headers})
    got = connection.getresponse()
    # `connection: close` comes where the server answers before it has read the whole body.
    told = {n.lower(): v for n, v in got.getheaders() if n.lower() not in {"date", "connection"}}
    content = got.read()
    connection.close()
    return got.status, told, content


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("method", "path", "body"), ODD, ids=[f"{m} {p} {len(b)}" for m, p, b in ODD]
)
def test_both_doors_answer_the_same_to_the_letter(doors, method, path, body, signed):
    house, plain = doors
    made = signing.signature_headers(
        "v3+v2", f"{house.base}{path.partition('?')[0]}", TOKEN, None, signing.Nonces()
    )
    headers = made if signed else {}
    first, second = (answer(base, method, path, body, headers) for base in (house.base, plain))
    assert first == second


def test_a_token_stands_in_no_log_line_of_either_door(doors, capfd):
    house, plain = doors
    told = ""

    def is_told(call):
        nonlocal told
        told += "".join(capfd.readouterr())
        return call in told

    for call, base in (("logged-1", house.base), ("logged-2", plain)):
        requests.post(f"{base}{DOOR}/x", data=b"{", headers=FORM, timeout=5)
        made = signing.signature_headers("v3", house.callback, TOKEN, None, signing.Nonces())
        body = {"Event": "Ring", "CallUUID": call}
        requests.post(f"{base}{DOOR}", data=body, headers=made, timeout=5)
        until(lambda call=call: is_told(call))
    assert CALLBACK_TOKEN not in told


@pytest.fixture
def frozen(house_of, redis_server):
    """A house whose Redis stands still, and what lets it go on."""
    with Proxy([str(redis_server.socket)], reads_commands=True) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}", timeout_s=0.2, connections=64)
        house = house_of(client)
        proxy.freeze()
        yield house, proxy
        proxy.calm()


@pytest.fixture
def house_of(lasting, ledger):
    """Serves the door of the event loop alone, through this client of Redis."""
    served = []

    def serve(client):
        house = lasting()
        web = create_web(house.settings, Ledger(client, ledger.prefix), house._done)
        port = free_port()
        behind = Behind(web.application, web.door, web.open_pages, port)
        behind.start()
        served.append(behind)
        return f"http://127.0.0.1:{port}", house

    yield serve
    for behind in served:
        behind.stop()


def timed(base, house, call, *, signed=True):
    made = signing.signature_headers("v3", house.callback, TOKEN, None, signing.Nonces())
    began = time.monotonic()
    got = requests.post(
        f"{base}{DOOR}",
        data={"Event": "Ring", "CallUUID": call},
        headers=made if signed else {},
        timeout=10,
    )
    return got.status_code, got.headers.get("Retry-After"), time.monotonic() - began


@pytest.mark.end_to_end
def test_while_redis_stands_still_fifty_at_once_are_asked_to_come_again_within_a_second(frozen):
    (base, house), proxy = frozen
    with ThreadPoolExecutor(50) as senders:
        answers = list(senders.map(lambda i: timed(base, house, f"s{i}"), range(50)))
    assert {(status, again) for status, again, _ in answers} == {(503, "2")}
    # The senders share this process with the server, so an answer may be seen late.
    assert sorted(took for *_, took in answers)[25] < 1.0
    proxy.thaw()
    until(lambda: timed(base, house, "after")[0] == 200)


def test_while_redis_stands_still_a_refusal_waits_for_nothing(frozen):
    (base, house), _ = frozen
    with ThreadPoolExecutor(20) as senders:
        waiting = [senders.submit(timed, base, house, f"w{i}") for i in range(10)]
        refused = [timed(base, house, "r", signed=False) for _ in range(5)]
        assert [status for status, *_ in refused] == [403] * 5
        assert sorted(took for *_, took in refused)[2] < 0.2
        assert {future.result()[0] for future in waiting} == {503}
