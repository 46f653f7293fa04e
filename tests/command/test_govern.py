"""`endtape hold`, `release` and `erase`, within 80 columns."""

import json

import pytest
from click.testing import CliRunner

from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import fact_files
from worker.calls.history import Deed
from worker.command import govern, ls, show


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
        # The house logs to the same standard error meanwhile.
        wide = [line for line in found.output.splitlines() if len(line) > 80]
        assert not [line for line in wide if "[info " not in line], wide
        return found.output

    def home():
        house.provider.hangup(call)
        house.reach(recording, "archived")

    return house, run, recording, home


def test_hold_keeps_release_ends_it_and_erase_asks_first(typed):
    house, run, recording, home = typed
    assert "still recording" in run(govern.erase, recording, "--yes", status=1)
    home()
    assert run(govern.release, recording) == f"{recording}: was not held\n"
    assert run(govern.hold, recording) == f"{recording}: held\n"
    (fact,) = fact_files.read_all(house.worker.archive.store, ACCOUNT, recording)
    assert fact.who.startswith("cli:")
    assert "legal hold" in run(govern.erase, recording, "--yes", status=1)
    until(lambda: "under legal hold" in run(ls.ls))  # a row of the catalogue follows within seconds
    assert "under legal hold" in run(show.show, recording)
    assert "legal hold" in run(govern.erase, recording, "--dry-run", status=1)
    assert run(govern.release, recording) == f"{recording}: released\n"
    shown = run(govern.erase, recording, input="n\n", status=1)
    assert "Erase 1 recording, both copies, for good?" in shown
    assert house.recording(recording)["phase"] == "archived"
    assert "tombstone stands" in run(govern.erase, recording, input="y\n")
    house.reach(recording, "erased")
    assert "erased already" in run(govern.erase, recording, "--yes")
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
