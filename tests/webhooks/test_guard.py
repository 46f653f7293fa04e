"""Guessing at tokens and keys is slow for who guesses and for nobody else; answers tell a browser
to keep out."""

import statistics
import threading
import time

import pytest
import requests

from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY
from webhooks.brake import Brake
from webhooks.headers import HEADERS

RING = {"Event": "Ring", "CallUUID": "c1"}


def took(deed):
    begun = time.monotonic()
    deed()
    return time.monotonic() - begun


def test_the_first_wrong_guesses_are_free_and_the_next_ones_wait():
    brake = Brake(free=3, pause_s=0.05, at_once=2)
    assert took(lambda: [brake.press() for _ in range(3)]) < 0.04
    assert took(lambda: [brake.press() for _ in range(4)]) >= 0.2


def test_no_more_than_so_many_wait_and_the_others_are_not_kept():
    brake = Brake(free=0, pause_s=0.3, at_once=2)
    times = []
    threads = [threading.Thread(target=lambda: times.append(took(brake.press))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(t >= 0.3 for t in times) == 2
    assert sum(t < 0.2 for t in times) == 10


def test_free_guesses_come_back_with_time():
    brake = Brake(free=1, pause_s=0.1, at_once=1)
    brake.press()
    brake._at -= 1
    assert took(brake.press) < 0.05


def guess(house, session, *, account=ACCOUNT, token="x" * 24):
    return session.post(f"{house.base}/vobiz/{account}/{token}", data=RING, timeout=5)


def test_guessing_a_callback_token_is_slowed_down_and_the_provider_never_waits(local):
    house = local()
    with requests.Session() as session:
        assert took(lambda: [guess(house, session) for _ in range(40)]) >= 20 * 0.1 - 0.3
    stop = threading.Event()

    def keep_guessing():
        with requests.Session() as mine:
            while not stop.is_set():
                guess(house, mine)

    threads = [threading.Thread(target=keep_guessing) for _ in range(6)]
    for thread in threads:
        thread.start()
    good = [
        took(lambda i=i: house.post({**RING, "CallUUID": f"c{i}"}).raise_for_status())
        for i in range(30)
    ]
    stop.set()
    for thread in threads:
        thread.join()
    assert statistics.median(good) < 0.09  # a pause is 0.1 s
    assert house.ledger.refusals()["unknown"] > 40


def test_guessing_a_key_is_slowed_down_counted_and_told_and_the_application_never_waits(local):
    house = local()
    assert (
        took(lambda: [house.get("/v1/recordings", key=f"wrong-key-{i:012}") for i in range(35)])
        >= 15 * 0.1 - 0.3
    )
    assert house.ledger.refusals()["key"] == 35
    assert (
        statistics.median(
            took(lambda: house.get("/v1/recordings").raise_for_status()) for _ in range(20)
        )
        < 0.09
    )
    assert house.get("/v1/recordings", key="k" * 30).json()["title"] == "Unauthorized"


def test_a_request_without_any_key_is_no_guess(local):
    house = local()
    assert took(lambda: [requests.get(house.base + "/", timeout=5) for _ in range(40)]) < 2
    assert house.ledger.refusals() == {}


@pytest.mark.parametrize("warm", [0, 60], ids=["the first ones", "while guessing is slowed down"])
def test_an_unknown_account_and_an_unknown_token_take_equally_long(local, warm):
    house, times = local(), {"account": [], "token": [], "both": []}
    with requests.Session() as session:
        for _ in range(min(warm, 25)):
            guess(house, session)
        for _ in range(6):
            for name, how in (
                ("account", {"account": "MA_OTHER", "token": CALLBACK_TOKEN}),
                ("token", {}),
                ("both", {"account": "MA_OTHER"}),
            ):
                times[name].append(took(lambda how=how: guess(house, session, **how)))
    middle = [statistics.median(t) for t in times.values()]
    assert max(middle) - min(middle) < 0.05


def test_every_answer_of_every_kind_carries_the_headers(local):
    house = local()
    answers = [
        house.get("/"),
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
