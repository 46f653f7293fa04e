"""The settings in force: a reload is read once, and one with mistakes changes nothing."""

import threading

import pytest

from worker.errors import LedgerUnavailable
from worker.in_force import Follower, InForce, exit_with
from worker.settings import Settings

ENV = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "token",
    "REDIS_URL": "redis://127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
    "ENDTAPE_API_KEY": "b" * 16,
}


@pytest.fixture
def dotenv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    return tmp_path / ".env"


def test_settings_are_read_once_for_each_reload(dotenv):
    in_force = InForce(Settings.from_env(), generation=0)
    dotenv.write_text("ENDTAPE_STOP_RATE=7\n")
    assert in_force.follow(0).stop_rate == 50
    assert in_force.follow(1).stop_rate == 7
    dotenv.write_text("ENDTAPE_STOP_RATE=8\n")
    assert in_force.follow(1).stop_rate == 7
    assert in_force.current().stop_rate == 7


def test_where_the_generation_is_not_known_the_settings_are_read_at_once(dotenv):
    in_force = InForce(Settings.from_env())
    dotenv.write_text("ENDTAPE_STOP_RATE=7\n")
    assert in_force.follow(0).stop_rate == 7


def test_a_reload_with_mistakes_keeps_the_settings_and_reports_each_mistake_once(dotenv):
    reported = []
    in_force = InForce(Settings.from_env(), generation=0, on_problems=reported.append)
    dotenv.write_text("ENDTAPE_STOP_RATE=x\n")
    assert in_force.follow(1).stop_rate == in_force.follow(1).stop_rate == 50
    (problem,) = in_force.problems
    assert problem == "ENDTAPE_STOP_RATE = 'x': must be a number from 0.1 to 1000000"
    assert reported == [(problem,)]
    dotenv.write_text("ENDTAPE_STOP_RATE=9\n")
    assert (in_force.follow(2).stop_rate, in_force.problems) == (9, ())


def test_mistakes_that_could_not_be_reported_are_reported_by_the_next_turn(dotenv):
    reported = []

    def report(problems):
        reported.append(problems)
        if len(reported) == 1:
            raise LedgerUnavailable("away")

    in_force = InForce(Settings.from_env(), generation=0, on_problems=report)
    dotenv.write_text("ENDTAPE_STOP_RATE=x\n")
    with pytest.raises(LedgerUnavailable):
        in_force.follow(1)
    assert in_force.follow(1).stop_rate == 50
    assert len(reported) == 2


def test_a_process_with_wrong_settings_ends_with_status_2_and_a_line_for_each_problem(capfd):
    with pytest.raises(SystemExit) as ended:
        exit_with(["one", "two"])
    assert (ended.value.code, capfd.readouterr().err) == (2, "one\ntwo\n")


def test_a_process_answers_a_reload_in_its_first_turn_which_comes_at_once(dotenv, ledger):
    ledger.reload()
    ended = threading.Event()
    ended.set()  # there is no second turn
    Follower(ledger, "clock", InForce(Settings.from_env())).run(ended)
    (process,) = ledger.answers(1)
    assert process.startswith("clock ")
    assert ledger.last_seen("settings") == {}  # it ended, and said so
