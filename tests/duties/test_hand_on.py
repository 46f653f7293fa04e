"""Handing on: `after_archive` is told that a file is home, with the guarantees of notifications."""

import json
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests import redis_view
from tests.duties.test_notify import SECRET, Application
from tests.waiting import until
from worker.calls.notices import KNOWN_FOR, TRIED_FOR, notice_id
from worker.calls.obligations import Duty, Obligation
from worker.command import notify as command
from worker.duties.outcomes import kept_for
from worker.ledger.notices import Tries

from tests.constants import ACCOUNT  # isort: skip

pytestmark = pytest.mark.redis
URL = '[defaults]\nafter_archive = {{ url = "{url}", secret_env = "HAND_ON_SECRET", private = true }}\n'


@pytest.fixture
def application():
    application = Application()
    yield application
    application.server.shutdown()
    application.server.server_close()


def archived(house):
    call = house.provider.call(from_number="919820055512").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    return call, recording


def test_an_address_is_told_signed_and_again_until_it_takes_it(local, application, capsys):
    house = local(rules=URL.format(url=application.url), HAND_ON_SECRET=SECRET)
    application.status = 410  # it wants no further try
    call, recording = archived(house)
    (failing,) = until(house.ledger.failing)
    assert (failing.hands_on, failing.why, failing.given_up) == (recording, "answered 410", True)
    until(lambda: house.alerts().get("notification_lost") == 1)
    application.status = 204
    command._retry(house.ledger, failing.notice, as_json=False)
    ((kind, data, told_as),) = until(application.taken)
    assert (kind, data["recording_id"], data["phase"]) == (
        "recording.archived",
        recording,
        "archived",
    )
    assert (told_as, "from" in data) == (failing.notice, False)
    owed = Obligation(duty=Duty.HAND_ON, account=ACCOUNT, call_uuid=call, recording_id=recording)
    until(lambda: redis_view.due_at(house.ledger, owed) is None and not house.ledger.failing())


def test_a_command_is_run_with_the_recording_and_again_when_it_fails(local, tmp_path):
    seen = tmp_path / "seen"
    source = "import os,sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10)); sys.exit(os.path.getsize(sys.argv[1]) < 1500)"
    words = json.dumps([sys.executable, "-c", source, str(seen)])
    house = local(
        rules=f"[defaults]\nafter_archive = {{ command = {words}, numbers = true }}\n"
        '[[rules]]\nname = "not these"\nmatch = { to = "55*" }\nafter_archive = {}\n'
    )
    _, recording = archived(house)
    (failing,) = until(house.ledger.failing)
    assert (failing.why, failing.given_up) == ("exit status 1", False)
    command._retry(house.ledger, "all", as_json=False)
    until(lambda: house.ledger.counters().get("notifications_total|recording.archived"))
    first, *_, last = [json.loads(line) for line in Path(seen).read_text().splitlines()]
    assert first == last
    assert (first["recording_id"], first["from"]) == (recording, "919820055512")


def test_a_notice_that_was_never_tried_in_three_days_is_listed_as_lost_and_can_be_retried(
    local, application
):
    house = local(rules=URL.format(url=application.url), HAND_ON_SECRET=SECRET)
    application.status = 500
    call, recording = archived(house)
    (failing,) = until(house.ledger.failing)
    # Three days ago its endpoint was down already, and others were always tried before it.
    began = house.ledger.now() - TRIED_FOR
    untried = Tries(count=0, first_at=began, why="it did not answer others")
    house.ledger.set_down(failing.endpoint, timedelta(minutes=1))
    house.ledger.note(ACCOUNT, call, {f"{failing.endpoint} {failing.notice}": untried})
    owed = Obligation(duty=Duty.HAND_ON, account=ACCOUNT, call_uuid=call, recording_id=recording)
    house.ledger.make_due_now(owed)
    lost = until(lambda: [f for f in house.ledger.failing() if f.given_up])
    assert (lost[0].notice, lost[0].tries) == (failing.notice, 0)
    until(lambda: house.alerts().get("notification_lost") == 1)


def test_a_call_is_kept_as_long_as_it_may_be_told_of(local, application):
    house = local(
        rules=URL.format(url=application.url), HAND_ON_SECRET=SECRET, ENDTAPE_HISTORY="1d"
    )
    call = house.call(house.provider.call().call_uuid)
    assert TRIED_FOR < kept_for(house.worker, call) < KNOWN_FOR
    assert notice_id("a") != notice_id("a", "after_archive")


def test_a_command_whose_worker_ends_is_given_back_without_a_try_counted(local, tmp_path):
    begun, ends = tmp_path / "begun", threading.Event()
    words = json.dumps(["sh", "-c", f"echo once >> {begun}; sleep 30"])
    house = local(rules=f"[defaults]\nafter_archive = {{ command = {words} }}\n")
    house.worker = replace(house.worker, ending=ends.is_set)
    archived(house)
    until(begun.exists)
    ends.set()
    until(lambda: begun.read_text().count("once") > 1)  # as another worker begins it anew
    assert house.ledger.failing() == []
