"""What Ctrl-C leaves behind while a command waits: the order stands, and it says so."""

import pytest
from click.testing import CliRunner

from tests.constants import ACCOUNT
from worker.command import handoff, service, stop
from worker.errors import EndtapeError


def interrupted(*_args, **_how):
    raise KeyboardInterrupt


def test_ctrl_c_in_stop_says_that_the_order_stands(ledger, monkeypatch):
    class Settings:
        accounts, rules = (ACCOUNT,), None

    monkeypatch.setattr(stop, "open_ledger", lambda **_: (Settings, ledger))
    monkeypatch.setattr(stop, "acts", interrupted)
    found = CliRunner().invoke(stop.stop, ["call-1", "--wait", "60"])
    assert (found.exit_code, "The order stands" in found.stderr) == (1, True), found.output
    assert "endtape show call-1" in found.stderr
    assert [event.kind for event in ledger.events(ACCOUNT, "call-1")] == ["StopOrdered"]


def test_ctrl_c_in_handoff_says_that_the_question_stands(monkeypatch):
    class Settings:
        local_url = "http://127.0.0.1:1"

        class Key:
            secret = "k" * 20

        api_keys = (Key,)

    monkeypatch.setattr(handoff, "open_ledger", lambda **_: (Settings, None))
    monkeypatch.setattr(service.requests.Session, "post", interrupted)
    found = CliRunner().invoke(handoff.handoff, ["call-1", "--kind", "blind"])
    assert (found.exit_code, "The question stands" in found.stderr) == (1, True), found.output
    with pytest.raises(EndtapeError, match="what was asked stands"):
        service.ask(Settings, "/v1/calls/call-1/pause", {})
