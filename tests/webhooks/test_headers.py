"""Guessing at tokens and keys is slow for who guesses and for nobody else; answers tell a browser
to keep out."""

import statistics
import threading
import time

import pytest
import requests

from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY
from tests.waiting import until
from webhooks.brake import Brake
from webhooks.headers import HEADERS

RING = {"Event": "Ring", "CallUUID": "c1"}


def took(deed):
    begun = time.monotonic()
    deed()
    return time.monotonic() - begun


def guess(house, session, *, account=ACCOUNT, token="x" * 24):
    return session.post(f"{house.base}/vobiz/{account}/{token}", data=RING, timeout=5)


PAUSE_S = 0.5


def brake():
    """One whose pause stands out from all that a loaded machine adds to a request."""
    return Brake(free=3, pause_s=PAUSE_S)


def test_guessing_a_callback_token_is_slowed_down_and_the_provider_never_waits(local):
    house = local(brake=brake())
    with requests.Session() as session:
        # In a second of pauses one guess becomes free again.
        assert took(lambda: [guess(house, session) for _ in range(6)]) >= 2 * PAUSE_S
    stop, guesses = threading.Event(), []

    def keep_guessing():
        with requests.Session() as mine:
            while not stop.is_set():
                guesses.append(took(lambda: guess(house, mine)))

    threads = [threading.Thread(target=keep_guessing) for _ in range(6)]
    for thread in threads:
        thread.start()
    good = []
    while len(good) < 30 or len(guesses) < 20:
        callback = {**RING, "CallUUID": f"c{len(good)}"}
        good.append(took(lambda sent=callback: house.post(sent).raise_for_status()))
    stop.set()
    for thread in threads:
        thread.join()
    # Both are slower on a loaded machine, but only the guesses are by a pause.
    assert statistics.median(guesses) - statistics.median(good) > PAUSE_S / 2
    until(lambda: house.ledger.refusals()["unknown"] >= 6 + 20)


def test_guessing_a_key_is_slowed_down_counted_and_told_and_the_application_never_waits(local):
    house = local(brake=brake())
    assert (
        took(lambda: [house.get("/v1/recordings", key=f"wrong-key-{i:012}") for i in range(6)])
        >= 2 * PAUSE_S
    )
    wrong = [took(lambda: house.get("/v1/recordings", key="wrong-key-1")) for _ in range(4)]
    good = [took(lambda: house.get("/v1/recordings").raise_for_status()) for _ in range(20)]
    assert max(wrong) - statistics.median(good) > PAUSE_S / 2
    assert house.ledger.refusals()["key"] == 10
    assert house.get("/v1/recordings", key="k" * 30).json()["title"] == "Unauthorized"


def test_a_request_without_any_key_is_no_guess(local):
    house = local(brake=Brake(free=3, pause_s=5.0))
    assert took(lambda: [requests.get(house.base + "/", timeout=5) for _ in range(8)]) < 5 * 5.0
    assert house.ledger.refusals() == {}


@pytest.mark.parametrize("free", [20, 0], ids=["the first ones", "while guessing is slowed down"])
def test_an_unknown_account_and_an_unknown_token_take_equally_long(local, free):
    pause_s = 0.2
    house = local(brake=Brake(free=free, pause_s=pause_s))
    times = {"account": [], "token": [], "both": []}
    with requests.Session() as session:
        for _ in range(6):
            for name, how in (
                ("account", {"account": "MA_OTHER", "token": CALLBACK_TOKEN}),
                ("token", {}),
                ("both", {"account": "MA_OTHER"}),
            ):
                times[name].append(took(lambda how=how: guess(house, session, **how)))
    middle = [statistics.median(t) for t in times.values()]
    assert max(middle) - min(middle) < pause_s / 2
    assert (min(middle) >= pause_s) is (free == 0)


def test_every_answer_of_every_kind_carries_the_headers(local):
    house = local()
    answers = [
        house.get("/v1/openapi.json"),
        house.get("/nope"),
        house.get("/v1/recordings?limit=x"),
        house.get("/metrics"),
        house.post(RING),
        house.post(RING, signed=False),
        requests.options(house.base + "/v1/recordings", timeout=5),
        requests.put(house.callback, timeout=5),
        requests.head(house.base + "/healthz", timeout=5),
    ]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url


def test_a_fault_of_ours_is_told_without_a_word_about_it(local, capfd):
    house = local()

    @house.app.route("/fault")
    def fault():
        raise RuntimeError(f"with {KEY} and /vobiz/{ACCOUNT}/{CALLBACK_TOKEN}")

    answer = requests.get(house.base + "/fault", timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert "RuntimeError" not in answer.text
    assert KEY not in answer.text
