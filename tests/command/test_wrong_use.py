"""What the commands make of words that nobody should have typed, and of words of others."""

import errno
import sys
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from emulator import __main__ as emulator
from tests.command.builders import settings_in
from tests.conftest import empty_ledger
from tests.constants import ACCOUNT
from worker.calls.events import Event, Kind
from worker.command import main, service
from worker.command.terminal import exit_statuses

HOSTILE = "a\x1b[2J\x07\u202e\u2067b"


@pytest.fixture(scope="module")
def house(redis_server, tmp_path_factory):
    """A ledger with one call, whose label somebody chose with care, and settings."""
    folder = tmp_path_factory.mktemp("house")
    settings = settings_in(folder)
    with empty_ledger(redis_server) as ledger:
        ledger.record(
            ACCOUNT,
            Event(id="1", kind=Kind.CALL_ANNOUNCED, call_uuid="call-1", labels={"team": HOSTILE}),
        )
        yield SimpleNamespace(settings=settings, ledger=ledger)


@pytest.fixture
def endtape(house, monkeypatch):
    """Runs a command in this process."""

    def run(*words):
        command = main.main.get_command(None, words[0])
        module = sys.modules[command.callback.__module__]
        for name, found in {
            "open_ledger": lambda **_: (house.settings, house.ledger),
            "current_settings": lambda **_: house.settings,
            "connect": lambda _url: house.ledger.redis,
            "Ledger": lambda _client: house.ledger,
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, found)
        # As on a terminal, where nothing is taken out of what is printed.
        return CliRunner().invoke(main.main, words, prog_name="endtape", color=True)

    return run


@pytest.mark.parametrize(
    "words",
    [("explain", "--call", "call-1"), ("show", HOSTILE), ("hold", HOSTILE, "--reason", "x")],
)
def test_no_command_prints_what_a_terminal_would_obey(words, endtape):
    found = endtape(*words)
    assert "a?[2J???b" in found.output
    assert not [line for line in found.output.splitlines() if not line.isprintable()]


@pytest.mark.parametrize(
    "words",
    [
        ("show", "a\udcff"),
        ("hold", "a\udcff", "--reason", "x"),
        ("hold", "r", "--reason", "a\udcff"),
        ("start", "a\udcff"),
        ("handoff", "call-1", "--to", "a\udcff"),
        ("ls", "-q", "a\udcff"),
        ("retry", "a\udcff"),
    ],
)
def test_bytes_that_are_no_utf_8_are_wrong_use(words, endtape):
    found = endtape(*words)
    assert (found.exit_code, "'a?' is no UTF-8 text" in found.stderr) == (2, True), found.output


@pytest.mark.parametrize("command", ["hold", "release", "erase"])
@pytest.mark.parametrize("reason", ["", " ", "x" * 201])
def test_a_reason_that_is_needed_is_neither_empty_nor_too_long(command, reason, endtape):
    found = endtape(command, "call-1", "--reason", reason)
    assert (found.exit_code, "1 to 200 characters" in found.stderr) == (2, True), found.output


@pytest.mark.parametrize(
    "words",
    [
        ("stop", "call-1", "--wait"),
        ("handoff", "call-1", "--wait"),
        ("reload", "--wait"),
        ("reconcile", "--wait"),
        ("simulate", "--rules", "new.toml", "--rate"),
        ("simulate", "--rules", "new.toml", "--limit"),
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-1", "x"])
def test_a_number_is_one_within_its_bounds(words, number, endtape):
    assert endtape(*words, number).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [("--port", "99999"), ("--port", "-1"), ("--keeps-s", "nan"), ("--retry-base-s", "-1")],
)
def test_a_number_of_the_emulator_is_one_within_its_bounds(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["emulator", *words])
    with pytest.raises(SystemExit) as ended:
        emulator.main()
    assert (ended.value.code, f"argument {words[0]}: " in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a\x1bb"), "No space left on device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
    ],
)
def test_what_the_machine_refuses_ends_with_1_and_without_a_traceback(error, says):
    @click.command()
    @exit_statuses
    def broken():
        raise error

    found = CliRunner().invoke(broken)
    assert (found.exit_code, type(found.exception)) == (1, SystemExit)
    assert (says in found.stderr, bool(found.stderr)) == (True, bool(says))


def test_an_unknown_account_is_wrong_use_of_explain(endtape):
    found = endtape("explain", "--account", "MA_NOBODY")
    assert (found.exit_code, f"({ACCOUNT})" in found.stderr) == (2, True)


def test_what_the_service_cannot_read_is_wrong_use_and_no_hold():
    """Exit 1 of `endtape handoff` means hold, so a mistyped kind must not end with it."""
    wrong = service.refused(400, {"detail": "kind: must be a word"})
    assert (type(wrong), wrong.exit_code, str(wrong)) == (
        click.UsageError,
        2,
        "kind: must be a word",
    )
    assert str(service.refused(409, {"detail": "nothing is paused"})) == "409: nothing is paused"
