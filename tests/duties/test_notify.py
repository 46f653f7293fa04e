"""Notifications: signed, at least once, in order for each recording, never in the way of stops."""

import hashlib
import http.server
import json
import threading
import time
from datetime import timedelta

import pytest
import requests
from standardwebhooks import Webhook

from tests import redis_view
from tests.constants import ACCOUNT, KEY
from tests.days import House
from tests.waiting import until
from worker.archive import days
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.duties import days as duty
from worker.duties import notify, telling
from worker.duties.trials import Trials
from worker.vobiz import webhook

pytestmark = pytest.mark.redis
SECRET = "whsec_" + "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTIzNA=="
RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n[[notify]]\nurl = "{url}"\nsecret_env = "NOTIFY_SECRET"\nprivate = true\n{more}'


class Application:
    """A real HTTP server that takes webhooks. It answers with `status`, after `delay_s`."""

    def __init__(self):
        self.got, self.status, self.delay_s, self.headers = [], 204, 0.0, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.got.append((outer.status, dict(self.headers), body))
                time.sleep(outer.delay_s)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/endtape?a=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        """What it took, verified as a receiver does: (type, data, id)."""
        told = []
        for status, headers, body in list(self.got):
            if status < 300:
                said = Webhook(SECRET).verify(body, headers)
                low = {name.lower(): value for name, value in headers.items()}
                told.append((said["type"], said["data"], low["webhook-id"]))
        return told


@pytest.fixture
def application():
    application = Application()
    yield application
    application.server.shutdown()
    application.server.server_close()


@pytest.fixture
def house(local, application):
    return local(rules=RULES.format(url=application.url, more=""), NOTIFY_SECRET=SECRET)


def stopped_by_an_operator(house):
    call = house.provider.call().call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.ledger.record(ACCOUNT, Event(id="o1", kind=Kind.STOP_ORDERED, call_uuid=call, by="api"))
    house.reach(recording, "archived")
    return call, recording


def test_notifications_are_signed_in_the_standard_webhooks_form_and_in_order_for_each_recording(
    house, application
):
    _, recording = stopped_by_an_operator(house)
    until(lambda: len(application.taken()) == 2)
    (first, data, one), (second, later, other) = application.taken()
    assert (first, second) == ("stop.confirmed", "recording.archived")
    assert (data["recording_id"], later["phase"], one != other) == (recording, "archived", True)
    assert not [name for name in ("from", "to") if name in data or name in later]
    assert json.loads(application.got[0][2])["timestamp"].endswith("Z")


def test_of_a_batch_with_a_slow_endpoint_nothing_is_sent_that_another_worker_took_over(
    ledger, tmp_path, application, monkeypatch
):
    (tmp_path / "endtape.toml").write_text(RULES.format(url=application.url, more=""))
    worker, now = House(ledger, tmp_path, NOTIFY_SECRET=SECRET).worker, ledger.now()
    ledger.ensure_due([notify.halted(ACCOUNT, now + timedelta(seconds=n)) for n in range(2)])

    def claimed():
        return ledger.claim(lead=timedelta(0), batch=9, free={Duty.NOTIFY: 9}).claims

    first, second = until(claimed)  # due within the millisecond in which a claim may look
    send, others = webhook.send, []

    def slow(*given):
        monkeypatch.setattr(webhook, "send", send)
        redis_view.end_leases(ledger, second.obligation)
        others.extend(until(claimed))
        ledger.load(others)
        return send(*given)

    monkeypatch.setattr(webhook, "send", slow)
    notify.notifies(worker, [first, second])
    assert len(application.got) == 1
    notify.notifies(worker, others)
    assert len(application.taken()) == 2


def test_an_endpoint_that_fails_gets_each_notice_later_under_the_same_id(house, application):
    application.status = 500
    stopped_by_an_operator(house)
    until(lambda: application.got)
    (failing,) = until(house.ledger.failing)
    assert (failing.type, failing.why, failing.given_up) == (
        "stop.confirmed",
        "answered 500",
        False,
    )
    first_id = {name.lower(): v for name, v in application.got[0][1].items()}["webhook-id"]
    application.status = 200
    until(lambda: len(application.taken()) == 2, 20)
    assert application.taken()[0][2] == first_id == failing.notice
    assert until(lambda: house.ledger.failing() == [])
    assert [t for t, _, _ in application.taken()] == ["stop.confirmed", "recording.archived"]


@pytest.mark.parametrize(
    ("status", "headers", "why", "given_up"),
    [
        (410, {}, "answered 410", True),
        (302, {"Location": "http://127.0.0.1:1/"}, "answered 302, and redirects are not followed", False),
    ],
)  # fmt: skip
def test_410_ends_the_tries_and_a_redirect_is_never_followed(
    house, application, status, headers, why, given_up
):
    application.status, application.headers = status, headers
    stopped_by_an_operator(house)
    failing = until(lambda: len(house.ledger.failing()) >= 1 and house.ledger.failing())
    assert {(f.why, f.given_up) for f in failing} == {(why, given_up)}


def test_only_the_types_that_an_endpoint_asks_for_are_sent_with_numbers_where_it_wants_them(
    local, application
):
    more = 'events = ["recording.archived"]\nnumbers = true\n'
    house = local(rules=RULES.format(url=application.url, more=more), NOTIFY_SECRET=SECRET)
    call = house.provider.call(from_number="919820055512", to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.post(
        f"Event=StartApp&CallUUID={call}&From=919820055512&To=918065550101&Direction=inbound"
    )
    house.provider.hangup(call)
    until(application.taken)
    ((kind, data, _),) = application.taken()
    assert (kind, data["from"], data["to"]) == (
        "recording.archived",
        "919820055512",
        "918065550101",
    )


def test_a_decision_on_a_hand_off_is_told_with_its_call(house, application):
    call = house.provider.call().call_uuid
    house.reach(house.provider.record(call).recording_id, "recording")
    asked = Event(
        id="asked.h",
        kind=Kind.HANDOFF_ASKED,
        call_uuid=call,
        order="h",
        trigger="transfer.blind",
        wait_s=1.0,
    )
    held = Event(
        id="decided.h",
        kind=Kind.HANDOFF_DECIDED,
        call_uuid=call,
        order="h",
        verdict="hold",
        by="api",
        proven=False,
        rule="defaults",
        trigger="transfer.blind",
        reason="no proof",
    )
    house.ledger.record(ACCOUNT, asked)
    house.ledger.record(ACCOUNT, held)
    told = until(lambda: [t for t in application.taken() if t[0] == "handoff.decided"])
    assert told[0][1]["handoffs"][0]["verdict"] == "hold"


def test_an_account_that_a_trial_halts_is_told_also_where_who_halted_it_died(house, application):
    house.provider.faults.switch_on("refuse-auth", me=True)
    house.ledger.halt(ACCOUNT)  # and died before the notice was owed
    assert not Trials(house.ledger, lambda: house.settings, lambda: False).turn()
    told = until(lambda: [t for t in application.taken() if t[0] == "account.halted"])
    assert (len(told), told[0][1]["account"]) == (1, ACCOUNT)


def test_an_endpoint_that_is_new_hears_of_nothing_older_than_a_minute(ledger):
    now = ledger.now()
    first = ledger.since(["e"], now)["e"]
    assert timedelta(0) < now - first <= timedelta(minutes=1, seconds=1)
    assert ledger.since(["e"], now + timedelta(hours=1))["e"] == first


def test_an_endpoint_that_hangs_does_not_delay_a_stop(house, application):
    application.delay_s = 3.0
    stopped_by_an_operator(house)
    until(lambda: application.got)
    call = house.provider.call().call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    began = time.monotonic()
    house.ledger.record(ACCOUNT, Event(id="o2", kind=Kind.STOP_ORDERED, call_uuid=call, by="api"))
    house.stop_reaches(recording, "confirmed")
    assert time.monotonic() - began < 2.5
    application.delay_s = 0.0


def test_a_number_that_somebody_wrote_into_a_reason_is_told_only_where_numbers_are_wanted():
    stop = {"event": "StopOrdered", "by": "anna", "claimed": "4915112345678", "reason": None}
    call = {"call_uuid": "1234567", "to": "4915112345678", "consent": {"by": "line 918065550101"}}
    assert telling.without_numbers(
        {**call, "timeline": [stop | {"reason": "of 918065550101", "what": "of 918065550101"}]}
    ) == {
        "call_uuid": "1234567",
        "consent": {"by": "line …"},
        "timeline": [stop | {"claimed": "…", "reason": "of …", "what": "of …"}],
    }


def test_an_erased_recording_is_told_without_numbers_also_when_redis_has_forgotten_it(
    house, application
):
    _, recording = stopped_by_an_operator(house)
    answer = requests.post(
        f"{house.base}/v1/recordings/{recording}/erase?reason=asked",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    )
    assert answer.status_code == 202
    house.reach(recording, "erased")
    until(lambda: application.taken()[-1][0] == "recording.erased")
    _, data, told_as = application.taken()[-1]
    assert (data["recording_id"], data["phase"]) == (recording, "erased")
    assert data["erased"]["reason"] == "asked"
    assert not {"from", "to"} & data.keys()
    assert [t for t in application.taken() if t[2] == told_as] == application.taken()[-1:]


def test_a_closed_day_is_told_with_its_ledger_and_its_head(house, application):
    day = house.ledger.now().date() - timedelta(days=1)
    name, yesterday = days.day_name(day), day.isoformat()
    house.ledger.command("HSET", house.ledger.key("days", ACCOUNT), "first", yesterday)
    duty.keep_due(house.ledger, [ACCOUNT])
    ((kind, data, _),) = until(application.taken)
    content = house.worker.archive.store.read(f"{ACCOUNT}/{name}")
    assert kind == "day.closed"
    assert data == {**json.loads(content), "head": hashlib.sha256(content).hexdigest()}
    assert data["ledger"]["day"] == yesterday
