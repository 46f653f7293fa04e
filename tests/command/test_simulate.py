"""What `endtape simulate` prints, from the calls that Redis knows."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.builders import started
from tests.constants import ACCOUNT
from worker.calls.events import Event, Kind
from worker.command import simulate as command

pytestmark = pytest.mark.redis
RULES = '[defaults]\nmax_duration = "5m"\n[[rules]]\nname = "short"\nmatch = { to = "91" }\nmax_duration = "30s"\n'


@pytest.fixture
def simulate(ledger, monkeypatch, tmp_path):
    """`endtape simulate` where one recording of ten minutes was made, and one hand-off held."""
    now = ledger.now()
    ledger.record(ACCOUNT, started())
    ended = Event(
        id="e2",
        kind=Kind.RECORDING_FINALIZED,
        call_uuid="c",
        signed=True,
        recording_id="r",
        ended_at=now,
        duration_s=600.0,
    )
    asked = Event(
        id="e3", kind=Kind.HANDOFF_ASKED, call_uuid="c", order="h", trigger="transfer", wait_s=1.0
    )
    held = Event(id="e4", kind=Kind.HANDOFF_DECIDED, call_uuid="c", order="h", verdict="hold")
    for event in (ended, asked, held):
        ledger.record(ACCOUNT, event)
    monkeypatch.setattr(
        command, "open_ledger", lambda **_: (SimpleNamespace(accounts={ACCOUNT: None}), ledger)
    )

    def run(*options, rules=RULES):
        (tmp_path / "new.toml").write_text(rules)
        return CliRunner().invoke(
            command.simulate, ["--rules", str(tmp_path / "new.toml"), *options]
        )

    return run


def test_it_shows_what_would_be_stopped_and_what_that_saves_within_80_columns(simulate):
    text = simulate("--rate", "0.10").stdout
    assert max(map(len, text.splitlines())) <= 80, text
    assert [
        w
        for w in ("short", "0 -> 1", "10 -> 1", "0.9", "short: max_duration", "570")
        if w not in text
    ] == [], text
    assert "Hand-offs: 1 asked. None would have got another verdict." in text
    report = json.loads(simulate("--json").stdout)
    (row,), (call,) = report["rules"], report["calls"]
    assert (row["rule"], row["stopped_would_be"], row["saved_money"]) == ("short", 1, None)
    assert (call["call_uuid"], call["recordings"][0]["saved_s"]) == ("c", 570.0)


def test_rules_that_change_nothing_say_so(simulate):
    text = simulate(rules='[defaults]\nmax_duration = "1h"\n').stdout
    assert "No recording would have ended at another time." in text


@pytest.mark.parametrize(
    ("options", "rules", "status", "says"),
    [
        (["--since", "soon"], RULES, 2, "must be a duration"),
        ([], "[defaults]\nmax = 1\n", 2, "max"),
        (["--account", "MA_other"], RULES, 0, "No recording was first seen within 7d."),
    ],
)
def test_what_is_wrong_is_named(simulate, options, rules, status, says):
    found = simulate(*options, rules=rules)
    assert (found.exit_code, says in found.output) == (status, True), found.output


def test_a_rules_file_that_is_not_there_is_named(simulate, tmp_path):
    found = CliRunner().invoke(command.simulate, ["--rules", str(tmp_path / "none.toml")])
    assert (found.exit_code, "cannot be read" in found.output) == (2, True)
