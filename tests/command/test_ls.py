"""What `endtape ls` lists: each state is in one of its lists, and a page fits a terminal of 80
columns."""

import json
import re
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner

from tests import redis_view
from tests.bad_days import made_older
from tests.calls.builders import T0
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.command import ls as command

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\nstop_tries = 1\n[[rules]]\nname = "payments line of the second floor"\nmatch = { to = "91804*" }\nmax_duration = "1s"\n'


@pytest.fixture
def ls(local, monkeypatch):
    """A house, and `endtape ls` in it."""
    house = local(rules=RULES)
    monkeypatch.setattr(command, "open_ledger", lambda **_: (house.settings, house.ledger))

    def run(*options):
        found = CliRunner().invoke(command.ls, options)
        assert found.exit_code == 0, found.output
        return found.stdout

    return house, run


def test_a_page_shows_call_numbers_rule_and_due_time_within_80_columns_and_json_has_all(ls):
    house, run = ls
    call = house.provider.call(from_number="919820055512", to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.post(
        f"Event=StartApp&CallUUID={call}&From=919820055512&To=918065550101&Direction=inbound"
    )
    until(lambda: house.call(call).to_number)
    text = run()
    due = house.recording(recording)["stop"]["due_at"]
    assert max(map(len, text.splitlines())) <= 80, text
    assert [
        word
        for word in (
            recording,
            call,
            "919820055512",
            "918065550101",
            "defaults: max_duration",
            due[5:16].replace("T", " "),
            "recording",
            "none",
        )
        if word not in text
    ] == [], text
    (told,) = json.loads(run("--json"))
    assert (
        told["from"],
        told["to"],
        told["direction"],
        told["call_uuid"],
        told["stop"]["rule"],
        told["stop"]["due_at"],
    ) == ("919820055512", "918065550101", "inbound", call, "defaults", due)
    assert run("--running", "--json") == run("--json")
    assert json.loads(run("--unproven", "--json")) == []
    assert (run("--unproven"), run("--failing"), run("--abandoned")) == (
        "Every stop that was due is proven.\n",
        "Nothing fails, and nothing is abandoned.\n",
        "Nothing is abandoned.\n",
    )


def test_a_stop_that_is_unknown_is_in_the_list_of_the_unproven_with_its_reason(ls):
    house, run = ls
    call = house.provider.call(to_number="918040000001").call_uuid
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    house.post(
        f"Event=StartApp&CallUUID={call}&From=919820055512&To=918040000001&Direction=inbound"
    )
    recording = house.provider.record(call).recording_id
    house.stop_reaches(recording, "unknown")
    (told,) = json.loads(run("--unproven", "--json"))
    assert (told["recording_id"], told["stop"]["state"]) == (recording, "unknown")
    text = run("--unproven")
    assert (
        "no proof that the recording ended" in text,
        "payments line of the second floor:" in text,
        max(map(len, text.splitlines())) <= 80,
    ) == (True, True, True), text
    redis_view.forget_all_due(house.ledger, Duty.LOOK)  # even if nobody looked any more
    assert [v["recording_id"] for v in json.loads(run("--unproven", "--json"))] == [recording]
    house.provider.hangup(call)
    house.reach(recording, "archived")
    assert json.loads(run("--unproven", "--json")) == json.loads(run("--running", "--json")) == []


def test_what_has_been_finalizing_for_minutes_fails_and_what_has_just_begun_to_does_not(ls):
    house, run = ls
    house.provider.faults.switch_on("slow-finalise", seconds=600)
    call = house.provider.call().call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "finalizing")
    assert json.loads(run("--failing", "--json")) == []
    until(
        lambda: house.ledger.next_at(Obligation(duty=Duty.LOOK, account=ACCOUNT, call_uuid=call))
    )  # the call is planned: nobody writes meanwhile
    made_older(house.ledger, call, Kind.CALL_ENDED, timedelta(minutes=3))
    looked = Event(id="look", kind=Kind.LOOKED, call_uuid=call, live=False)
    house.ledger.record(ACCOUNT, looked)
    (told,) = json.loads(run("--failing", "--json"))
    assert (
        told["recording_id"],
        told["fault"],
        told["tries"] >= 1,
        "finalizing" in told["problem"],
    ) == (recording, "provider", True, True)
    assert told["next_at"] is not None
    shown = run("--failing")
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"provider +[1-9] +(in [0-9]+ s|now)", shown), shown
    (again,) = json.loads(run("--failing", "--fault", "provider", "--json"))
    assert again["recording_id"] == recording
    assert (
        json.loads(run("--failing", "--fault", "media", "--json"))
        == json.loads(run("--abandoned", "--json"))
        == []
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "never"), (0.2, "now"), (6, "in 6 s"), (300, "09-14 06:35")]
)
def test_the_next_try_is_told_in_seconds_where_it_is_soon(seconds, said, monkeypatch):
    class ThatYear(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime(2026, 9, 14, tzinfo=zone)

    monkeypatch.setattr(command, "datetime", ThatYear)
    next_at = None if seconds is None else T0 + timedelta(seconds=seconds)
    assert command._ahead(next_at, T0) == said


def test_an_account_that_nobody_has_is_refused(ls):
    refused = CliRunner().invoke(command.ls, ["--account", "nope"])
    assert (refused.exit_code, "no account 'nope' in the settings (" in refused.output) == (2, True)


def test_lists_that_exclude_one_another_are_wrong_use(ls):
    for options in (
        ["--running", "--unproven"],
        ["--unproven", "--failing"],
        ["--running", "--fault", "media"],
    ):
        assert CliRunner().invoke(command.ls, options).exit_code == 2
    house, run = ls
    for n in range(2):
        house.ledger.record(
            ACCOUNT,
            Event(
                id=f"e{n}",
                kind=Kind.RECORDING_STARTED,
                call_uuid=f"c{n}",
                recording_id=f"r{n}",
                signed=True,
                to_number="918065550101",  # so that nobody asks the provider, who knows no such call
            ),
        )
    assert "There are more" in run("--running", "--limit", "1")
