"""`/metrics`: each figure that an operator watches, from whatever counted it."""

import re
import threading

import pytest

from tests.constants import ACCOUNT, KEY
from tests.waiting import until
from worker import tally
from worker.duties.census import Census
from worker.errors import LedgerUnavailable
from worker.in_force import Follower
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.vobiz import measured

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\nstop_tries = 1\n[[rules]]\nname = "short"\nmatch = { to = "91804*" }\nmax_duration = "1s"\n'


def read(house, key=KEY):
    """Every sample of a scrape, by its name and labels."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    text = house.app.test_client().get("/metrics", headers=headers).text
    return {
        name: float(value)
        for name, value in re.findall(r"^(endtape_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    }


def counts_alone(monkeypatch):
    """Applications of other tests in this process have counted, and would take what is counted
    here.
    """
    monkeypatch.setattr(Follower, "turn", lambda _self: None)
    tally.taken()


@pytest.mark.redis
def test_a_life_of_recordings_shows_in_each_figure(local, monkeypatch):
    counts_alone(monkeypatch)
    idle = '\n[[accounts]]\nauth_id = "MA_IDLE"\ntoken_env = "IDLE_TOKEN"\n'
    house = local(rules=RULES + idle, IDLE_TOKEN="t")
    call = house.provider.call(to_number="918040000001").call_uuid
    house.post(f"Event=StartApp&CallUUID={call}&To=918040000001&From=91&Direction=inbound")
    home = house.provider.record(call).recording_id
    house.reach(home, "archived")
    other = house.provider.call(to_number="918065550101").call_uuid
    running = house.provider.record(other).recording_id
    house.reach(running, "recording")
    house.ledger.halt("MA_IDLE")
    house.ledger.degrade("archive@here", "No space left on device")
    answer = house.app.test_client().post(
        f"/v1/calls/{other}/handoff",
        json={"wait_s": 5},
        headers={"Authorization": f"Bearer {house.settings.api_keys[0].secret}"},
    )
    assert answer.json["verdict"] == "go"
    Census(house.ledger, lambda: house.settings).take()

    def counted():
        house.ledger.count_tally()  # a worker counts what it has noted
        found = read(house)
        return (
            found.get('endtape_provider_requests_total{request="stop",status="204"}') == 2
            and found.get("endtape_stop_confirmation_seconds_count") == 2
            and found.get('endtape_archived_total{account="MA_TEST0001"}')
            and found
        )

    seen = until(counted)
    expected = {
        'endtape_archived_total{account="MA_IDLE"}': 0,
        "endtape_home_seconds_count": seen['endtape_archived_total{account="MA_TEST0001"}'],
        "endtape_stop_lateness_seconds_count": 2,
        "endtape_stop_confirmation_seconds_count": 2,
        'endtape_provider_requests_total{request="stop",status="204"}': 2,
        'endtape_provider_request_seconds_count{request="stop"}': 2,
        'endtape_provider_request_seconds_bucket{le="+Inf",request="stop"}': 2,
        'endtape_handoffs_total{proof="proven",verdict="go"}': 1,
        'endtape_handoffs_total{proof="unproven",verdict="hold"}': 0,
        "endtape_handoff_seconds_count": 1,
        'endtape_account_halted{account="MA_IDLE"}': 1,
        'endtape_account_halted{account="MA_TEST0001"}': 0,
        'endtape_degraded{what="archive"}': 1,
        'endtape_degraded{what="catalog"}': 0,
        'endtape_processes{role="stops"}': 0,
        'endtape_recordings{account="MA_IDLE",phase="recording"}': 0,
        'endtape_stops_unproven{account="MA_TEST0001"}': 0,
        'endtape_ledger_gaps_total{account="MA_TEST0001",figure="missing"}': 0,
        'endtape_refused_total{reason="wrong"}': 0,
        "endtape_notifications_failing": 0,
        'endtape_duty_oldest_seconds{duty="erase"}': 0,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert seen['endtape_archived_bytes_total{account="MA_TEST0001"}'] > 1000
    assert seen['endtape_provider_requests_total{request="media",status="200"}'] >= 1
    assert 0 <= seen["endtape_census_age_seconds"] < 30
    assert re.search(r'endtape_build_info\{version="\d+\.\d+', house.get("/metrics").text)
    assert not [name for name in seen if call in name or home in name or running in name]
    stranger = read(house, key=None)
    assert not [name for name in stranger if ACCOUNT in name or "MA_IDLE" in name]
    assert stranger['endtape_account_halted{account="all"}'] == 1
    assert stranger['endtape_archived_total{account="all"}'] >= 1
    assert house.get("/metrics", key="wrong").status_code == 401


@pytest.mark.redis
def test_a_census_counts_each_recording_once_and_in_turn_with_other_processes(local):
    house = local(rules=RULES)
    ids = []
    for number in ("918040000001", "918065550101", "918065550102"):
        call = house.provider.call(to_number=number).call_uuid
        if not ids:
            house.provider.faults.switch_on("deaf-stop", call_uuid=call)
        house.post(f"Event=StartApp&CallUUID={call}&To={number}&From=91&Direction=inbound")
        ids.append(house.provider.record(call).recording_id)
    house.stop_reaches(ids[0], "unknown")
    first, second = (Census(house.ledger, lambda: house.settings) for _ in range(2))
    first.turn()
    gauges, age_s = house.ledger.gauges()
    assert age_s >= 0
    assert {k: v for k, v in gauges.items() if v} == {
        f"recordings|{ACCOUNT}|stopping": 1,
        f"recordings|{ACCOUNT}|recording": 2,
        f"stops_unproven|{ACCOUNT}": 1,
    }
    house.ledger.publish_gauges({})
    second.turn()
    assert house.ledger.gauges()[0] == {}  # the first has just done it, for all


def test_counts_that_did_not_reach_redis_are_told_the_next_time(monkeypatch):
    counts_alone(monkeypatch)
    threads = [
        threading.Thread(target=lambda: [tally.add("n|x") for _ in range(1000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.duration("d|x", 0.3)
    nobody = Ledger(connect("redis://127.0.0.1:1", timeout_s=0.1))
    with pytest.raises(LedgerUnavailable):
        nobody.count_tally()
    assert tally.taken() == {"n|x": 4000, "d|x|0.5": 1, "d|x|sum": 0.3}
    assert tally.taken() == {}


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("DELETE", "/Account/MA_1/Call/c/Record/", "stop"),
        ("POST", "/Account/MA_1/Call/c/Record/", "start"),
        ("POST", "/Account/MA_1/Call/c/", "transfer"),
        ("GET", "/Account/MA_1/Call/c/", "live_calls"),
        ("GET", "/Account/MA_1/Call/", "live_calls"),
        ("GET", "/Account/MA_1/Recording/", "recordings"),
        ("GET", "/Account/MA_1/Recording/r/", "recordings"),
        ("DELETE", "/Account/MA_1/Recording/r/", "delete"),
        ("GET", "/Account/MA_1/cdr", "call_records"),
        ("GET", "/auth/me", "credentials"),
        ("GET", "/new", "other"),
    ],
)
def test_a_request_counts_under_one_of_a_few_words(method, path, what):
    assert measured.what(method, path) == what
