"""A day of the emulator's with each kind of irregularity: the ledger finds all, and invents none."""

import json
from datetime import timedelta

import pytest
import requests
from click.testing import CliRunner

from tests.bad_days import ended
from tests.constants import ACCOUNT, KEY
from tests.waiting import until
from worker.calls.completeness import FIGURES
from worker.catalogue import last_hour
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.command import completeness as command
from worker.duties import call_records as duty
from worker.ledger import call_records

RULES = """\
[defaults]
max_duration = "1h"

[[rules]]
name = "every"
match = { to = "9180*" }
expect = "every"

[[rules]]
name = "none"
match = { to = "9181*" }
expect = "none"

[[rules]]
name = "agree"
match = { to = "9182*" }
consent = "required"
consent_within = "1s"

[[rules]]
name = "tail"
match = { to = "9183*" }
on = { transfer = "stop" }
tail_limit = "1s"

[[rules]]
name = "deaf"
match = { to = "9184*" }
max_duration = "1s"
confirm_within = "1s"
stop_tries = 1

[[rules]]
name = "offloaded"
match = { to = "9185*" }
keep_at_provider = "0s"
"""
NEEDED = "918000000001"


class Day:
    """Makes calls and recordings of today. Each method gives the ids of what it made."""

    def __init__(self, house):
        self.house, self.provider = house, house.provider

    def order(self, path, **body):
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = requests.post(
            f"{self.house.base}/v1{path}", json=body, headers=headers, timeout=20
        )
        assert answer.ok, answer.text
        return answer.json()

    def recorded(self, to_number, *, ago=0.0):
        """A call whose recording runs, begun so many seconds ago."""
        call = self.provider.call(to_number=to_number)
        recording = self.provider.record(call.call_uuid)
        recording.started_at -= ago
        call.answered_at -= ago
        return call.call_uuid, recording.recording_id

    def hung_up(self, to_number, *, ago=30.0):
        call, recording = self.recorded(to_number, ago=ago)
        self.provider.hangup(call)
        return recording

    def unrecorded(self, to_number):
        call = self.provider.call(to_number=to_number)
        call.answered_at -= 30
        self.provider.hangup(call.call_uuid)
        return call.call_uuid

    def hard_to_stop(self, to_number, fault, **how):
        call = self.provider.call(to_number=to_number)
        self.provider.faults.switch_on(fault, call_uuid=call.call_uuid, **how)
        return self.provider.record(call.call_uuid).recording_id

    def with_a_tail(self, to_number):
        recording = self.hard_to_stop(to_number, "stop-429", retry_after=2, times=1)
        self.house.reach(recording, "recording")
        self.provider.event(self.provider.recordings[recording].call_uuid, "DialConnected")
        return recording

    def unheard(self, to_number):
        """A recording whose start nobody told of, stopped by a person 20 s after it began."""
        call = self.provider.call(to_number=to_number).call_uuid
        self.provider.faults.switch_on("lost-callbacks", call_uuid=call, event="Record")
        recording = self.provider.record(call)
        recording.started_at -= 20
        self.order(f"/calls/{call}/stop", reason="by a person")
        return recording.recording_id

    def in_segments(self):
        call, first = self.recorded("917700", ago=30)
        self.house.reach(first, "recording")
        self.order(f"/calls/{call}/pause", reason="card", wait_s=10)
        second = self.order(f"/calls/{call}/resume", reason="done")["recordings"][0]["recording_id"]
        self.provider.recordings[second].started_at -= 10
        self.provider.hangup(call)
        return first, second


@pytest.fixture
def house(local, monkeypatch):
    made = local(rules=RULES)
    monkeypatch.setattr(command, "open_ledger", lambda **_: (made.settings, made.ledger))
    return made


def found(house, day, made):
    """Figure → the names in `made` of what it counts, of all rows; and the command's exit status."""
    ran = CliRunner().invoke(command.ledger, ["--day", day.isoformat(), "--json"])
    rows = json.loads(ran.stdout)["rows"]
    name_of = {one: name for name, one in made.items()}
    figures = {
        figure: {
            name_of[i] for row in rows for i in (*row[figure]["recordings"], *row[figure]["calls"])
        }
        for figure in FIGURES
    }
    return {figure: names for figure, names in figures.items() if names}, ran.exit_code


def to_explain(house, made):
    """What the console's first page says of the last hour, by the names in `made`."""
    rules, name_of = house.settings.rules, {one: name for name, one in made.items()}
    listing = Listing(house.ledger, Live(house.ledger, lambda: rules), house.worker.catalogue)
    hour = last_hour.hour(listing, [ACCOUNT], rules, house.ledger.now())
    return {name_of[view["recording_id"]] for view in hour.to_explain}


def records_are_read(house):
    """The day whose call records were read just now."""
    duty.keep_due(house.worker)
    now = house.ledger.now()

    def is_read():
        house.ledger.make_due_now(duty.obligation(ACCOUNT))
        at = call_records.read_to(house.ledger, ACCOUNT, now.date())
        return at and at >= now

    until(is_read)
    return now.date()


@pytest.mark.end_to_end
def test_a_clean_day_is_clean_and_each_irregularity_of_a_bad_one_is_found_and_no_other(house):
    day = Day(house)
    late = day.provider.call(to_number=NEEDED)
    day.provider.faults.switch_on("late-callbacks", call_uuid=late.call_uuid, seconds=1)
    slow = day.provider.record(late.call_uuid)
    slow.started_at -= 30
    day.provider.hangup(late.call_uuid)
    made = {
        "announced late": slow.recording_id,
        "hung up": day.hung_up(NEEDED),
        "of no rule": day.hung_up("917700"),
        "ended by itself": ended(house, seconds=200)[1].recording_id,
    }
    day.unrecorded("917700")  # no rule wants it recorded
    for recording in made.values():
        house.reach(recording, "archived")
    today, clean = records_are_read(house), set(made)
    assert found(house, today, made) == (
        {"expected": clean, "archived": clean, "verified": clean},
        0,
    )

    made |= {
        "tail": day.with_a_tail("918300"),
        "deaf": day.hard_to_stop("918400", "deaf-stop"),
        "unheard": day.unheard("918400"),
        "no consent": day.recorded("918200")[1],
        "too short": day.hung_up("917700", ago=0),
        "unexpected": day.hung_up("918100"),
        "offloaded": day.hung_up("918500"),
        "cut": ended(house, seconds=60)[1].recording_id,
        "erased": day.hung_up("917700"),
        "lost": day.unrecorded(NEEDED),
        "absent": ended(house, seconds=200, fault="media-5xx", days_ago=31)[1].recording_id,
    }
    made["segment"], made["next segment"] = day.in_segments()
    house.reach(made["erased"], "archived")
    day.order(f"/recordings/{made['erased']}/erase", reason="asked for")
    house.reach(made["erased"], "erased")
    house.reach(made["absent"], "abandoned")
    house.stop_reaches(made["deaf"], "unknown")
    home = made.keys() - {"deaf", "erased", "lost", "absent"}
    for name in home:
        house.reach(made[name], "archived")
    until(lambda: house.recording(made["offloaded"])["deleted_at_provider"])
    records_are_read(house)
    assert found(house, today, made) == (
        {
            "expected": made.keys() - {"unexpected", "absent"},
            "archived": home,
            "verified": home,
            "under_way": {"deaf"},
            "missing": {"lost"},
            "unexpected": {"unexpected"},
            "over_long": {"tail", "deaf", "unheard"},
            "too_short": {"too short"},
            "unproven": {"deaf"},
            "without_consent": {"no consent"},
            "restricted": {"no consent", "tail"},
            "erased": {"erased"},
            "deleted_at_provider": {"offloaded"},
            "cut_at_default_limit": {"cut"},
            "with_gaps": {"next segment"},
            "unexplained": {"lost", "unexpected", "tail", "deaf", "unheard", "too short", "cut"},
        },
        1,
    )
    assert {"tail", "unheard"} <= to_explain(house, made)
    absent = {figure: {"absent"} for figure in ("expected", "missing", "unexplained")}
    assert found(house, today - timedelta(days=31), made) == (absent, 1)
