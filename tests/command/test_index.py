"""`endtape index` makes the catalogue anew; `ls` and `show` read what Redis has forgotten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from click.testing import CliRunner

from tests import redis_view
from tests.constants import ACCOUNT, ENV, HOUR
from tests.waiting import until
from worker.calls import timing
from worker.command import index, ls, show

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def typed(local, monkeypatch):
    """A house whose one recording Redis has forgotten, and commands in it."""
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    house = local(rules=HOUR)
    call = house.provider.call(from_number="919820055512", to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    until(lambda: list(house.ledger.live([ACCOUNT])) == [])
    redis_view.drop_log(house.ledger, ACCOUNT, call)
    house.ledger.forget(ACCOUNT)
    for module in (ls, show):
        monkeypatch.setattr(module, "open_ledger", lambda **_: (house.settings, house.ledger))
    monkeypatch.setattr(index, "current_settings", lambda **_: house.settings)

    def run(command, *options, status=0):
        found = CliRunner().invoke(command, options)
        assert found.exit_code == status, found.output
        return found.stdout

    return house, run, call, recording


def test_ls_and_show_read_what_redis_has_forgotten_and_index_brings_it_back(typed):
    house, run, call, recording = typed

    def listed(*options):
        return [view["recording_id"] for view in json.loads(run(ls.ls, "--json", *options))]

    for options in (
        (),
        ("--phase", "archived"),
        ("--stop", "none"),
        ("--number", "+91 80 6555 0101"),
        ("--number", "9180*"),
        ("--call", call),
        ("--account", ACCOUNT),
        ("--not-held",),
        ("--since", "2020-01-01T00:00:00Z"),
        ("-q", recording[4:12]),
    ):
        assert listed(*options) == [recording], options
    for options in (
        ("--phase", "abandoned"),
        ("--stop", "unknown"),
        ("--fault", "media"),
        ("--rule", "nobody's"),
        ("--number", "123"),
        ("--label", "team=x"),
        ("--held",),
        ("--until", "2020-01-01T00:00:00Z"),
        ("-q", "nowhere"),
    ):
        assert listed(*options) == [], options
    for uuid in (call, recording):
        shown = json.loads(run(show.show, "--json", uuid))
        assert (shown["call_uuid"], shown["to"]) == (call, "918065550101")
    text = run(show.show, recording)
    assert f"recording {recording}\n  archived; stop none" in text
    house.worker.catalogue.remove([(ACCOUNT, recording)])
    assert (listed(), "no such call" in run(show.show, call, status=1)) == ([], False)
    assert "1 archived, 0 given up and 0 erased are in the catalogue" in run(index.index)
    assert listed() == [recording]


def test_index_names_a_row_that_the_catalogue_cannot_hold_goes_on_and_ends_with_1(typed):
    house, _, _, recording = typed
    receipt = next((house.folder / "archive").rglob(f"{recording}.json"))
    for name, labels in (("rec-bad", {"team": 5}), ("rec-worse", ["x"]), ("rec-good", {})):
        said = json.loads(receipt.read_text()) | {"recording_id": name, "labels": labels}
        (receipt.parent / f"{name}.json").write_text(json.dumps(said))
        (receipt.parent / f"{name}.mp3").write_bytes(b"x")
    found = CliRunner().invoke(index.index)
    assert found.exit_code == 1, found.output
    assert "2 archived" in found.output
    assert "Receipts that cannot be read or entered: 2." in found.output
    assert house.worker.catalogue.known(ACCOUNT, ["rec-good", "rec-bad"]) == {"rec-good"}
    told = json.loads(CliRunner().invoke(index.index, ["--json"]).stdout)
    assert (told["archived"], told["unreadable"]) == (2, 2)


@pytest.mark.end_to_end
def test_index_prints_nothing_but_its_json_where_it_names_what_cannot_be_read(tmp_path):
    folder = tmp_path / "recordings" / ACCOUNT / "2026/09/14"
    folder.mkdir(parents=True)
    (folder / "rec-1.json").write_text("{}")
    found = subprocess.run(
        [sys.executable, "-m", "worker.command.main", "index", "--json"],
        cwd=tmp_path,
        env={**os.environ, **ENV, "REDIS_URL": "redis://127.0.0.1:1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, json.loads(found.stdout)["unreadable"]) == (1, 1), found
    assert "rec-1" in found.stderr


def test_index_replaces_a_catalogue_of_an_older_shape_only_by_order(typed):
    house, run, _, recording = typed
    engine = sqlalchemy.create_engine(house.settings.catalog)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE recordings DROP COLUMN restricted")
    engine.dispose()
    found = CliRunner().invoke(index.index)
    assert (found.exit_code, "recordings lacks restricted" in found.output) == (1, True)
    assert "`endtape index --replace`" in found.output
    assert "1 archived" in run(index.index, "--replace")
    assert [view["recording_id"] for view in json.loads(run(ls.ls, "--json"))] == [recording]


@pytest.mark.parametrize(
    "options",
    [
        ("--number", "nobody"),
        ("--label", "team"),
        ("--since", "yesterday"),
        ("--running", "--phase", "archived"),
        ("--running", "--fault", "media"),
    ],
)
def test_ls_refuses_a_value_that_a_filter_does_not_take(options):
    assert CliRunner().invoke(ls.ls, options).exit_code == 2
