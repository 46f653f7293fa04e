"""`endtape hold`, `release` and `erase`, within 80 columns."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import fact_files
from worker.calls.history import Deed
from worker.command import govern, ls, show
from worker.governing import holds, subject
from worker.governing.places import Here
from worker.governing.subject import By


@pytest.fixture
def typed(local, monkeypatch):
    """A house with an archived recording, and commands in it."""
    house = local(rules=HOUR)
    call = house.provider.call(from_number="919820055512", to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    for module in (govern, ls, show):
        monkeypatch.setattr(module, "open_ledger", lambda **_: (house.settings, house.ledger))

    def run(command, *options, status=0, **how):
        why = (
            ("--reason", "case 12")
            if command in {govern.hold, govern.release, govern.erase}
            else ()
        )
        found = CliRunner().invoke(command, [*options, *why], **how)
        assert found.exit_code == status, found.output
        # Threads of the house log to the same standard error meanwhile.
        lines = [ln for ln in found.output.splitlines(keepends=True) if "[info " not in ln]
        assert not [line for line in lines if len(line) > 81], lines
        return "".join(lines)

    def home():
        house.provider.hangup(call)
        house.reach(recording, "archived")

    return house, run, recording, home


def test_hold_keeps_release_ends_it_and_erase_asks_first(typed):
    house, run, recording, home = typed
    assert "still recording" in run(govern.erase, recording, "--yes", status=1)
    home()
    told = f"{recording}: was not held, so nothing changed\n"
    assert run(govern.release, recording) == told
    held = run(govern.hold, recording)
    assert held.startswith(f"{recording}: held\nNeither our copy nor the provider's is deleted")
    assert "No lock of a bucket stands behind it: the archive is no S3 bucket" in " ".join(
        held.split()
    )
    (fact,) = fact_files.read_all(house.worker.archive.store, ACCOUNT, recording)
    assert fact.who.startswith("cli:")
    again = run(govern.hold, recording)
    assert f"was on hold already, since {fact.at:%Y-%m-%d %H:%M:%S} UTC by cli:" in again
    assert ": case 12\n  both reasons stand" in again
    assert f"since {fact.at:%Y-%m-%d %H:%M:%S} UTC by cli:" in run(govern.hold, recording)
    out = run(govern.erase, recording, "nobody", status=1)
    assert "Erase" not in out, "nothing would go, so nothing is asked"
    assert (out.count("nobody: no such recording"), out.count("legal hold")) == (1, 1)
    assert "legal hold" in run(govern.erase, recording, "--yes", status=1)
    until(lambda: "under legal hold" in run(ls.ls))  # a row of the catalogue follows within seconds
    assert "under legal hold" in run(show.show, recording)
    assert "legal hold" in run(govern.erase, recording, "--dry-run", status=1)
    assert run(govern.release, recording).startswith(f"{recording}: released\nWhat is released may")
    shown = run(govern.erase, recording, "nobody", input="n\n", status=1)
    assert "Erase 1 recording (left out: 1 unknown), both copies, for good?" in shown
    assert shown.index("nobody: no such recording") < shown.index("Erase 1")
    assert house.recording(recording)["phase"] == "archived"
    ordered = run(govern.erase, recording, input="y\n")
    assert f"{recording}: is being erased\nA signed tombstone stands." in ordered
    house.reach(recording, "erased")
    assert "was erased already, so nothing" in run(govern.erase, recording, "--yes")
    until(lambda: "erased by cli:" in run(ls.ls))
    assert "erased by cli:" in run(show.show, recording)
    entered = house.ledger.history(ACCOUNT, until=house.ledger.now())
    assert {Deed.HOLD, Deed.RELEASE, Deed.ERASE} <= {e.said["what"] for e in entered}


def test_a_dry_run_lists_what_would_go_with_counts_by_rule_and_removes_nothing(typed):
    house, run, recording, home = typed
    home()
    shown = run(govern.erase, recording, "--dry-run")
    assert recording in shown
    assert "by rule" in shown
    view = json.loads(run(govern.erase, recording, "nobody", "--dry-run", "--json", status=1))
    (row,) = view["recordings"]
    assert (len(row["files"]), sum(view["by_rule"].values()), view["unknown"]) == (4, 1, ["nobody"])
    assert house.get(f"/v1/recordings/{recording}/receipt").status_code == 200
    assert "no such recording" in run(govern.hold, "nobody", status=1)


def test_a_dry_run_without_ids_lists_by_date_and_rule_what_retain_will_erase(local, monkeypatch):
    house = local(rules='[[rules]]\nname = "a year"\nretain = "365d"\n')
    monkeypatch.setattr(govern, "open_ledger", lambda **_: (house.settings, house.ledger))
    ids = []
    for _ in range(2):
        call = house.provider.call().call_uuid
        ids.append(house.provider.record(call).recording_id)
        house.reach(ids[-1], "recording")
        house.provider.hangup(call)
        house.reach(ids[-1], "archived")
    until(lambda: all(house.worker.catalogue.find(one) for one in ids))
    places = Here(house.ledger, house.worker.archive, house.worker.catalogue, house.worker.rules)
    holds.hold(places, subject.find(places, [ACCOUNT], ids[0]), By(who="anna", reason="case"))
    day = house.ledger.now().date() + timedelta(days=366)

    def run(*options):
        return CliRunner().invoke(govern.erase, ["--dry-run", *options])

    assert json.loads(run("--json").stdout)["recordings"] == []  # within 30 days
    found = json.loads(run("--json", "--until", day.isoformat()).stdout)
    assert {one["recording_id"]: one["held"] for one in found["recordings"]} == {
        ids[0]: True,
        ids[1]: False,
    }
    assert (found["by_rule"], found["held"]) == ({"a year": 1}, 1)
    text = run("--until", day.isoformat()).stdout
    goes_on = house.recording(ids[0])["retain_until"][:10]
    assert [line.split() for line in text.splitlines() if goes_on in line] == [
        [goes_on, "a", "year", "2", "1"]
    ]
    assert f"2 recordings until {day}; held, and erased when the hold ends: 1." in text
    assert house.worker.archive.tombstone(house.recording(ids[1])["archive_key"]) is None
    refused = CliRunner().invoke(govern.erase, [ids[1], "--yes"])
    assert (refused.exit_code, "--reason is needed" in refused.output) == (2, True)
