"""What a person does by a command stands in the history, with that person's name."""

import getpass
import shlex
from datetime import timedelta

from click.testing import CliRunner

from tests.constants import ACCOUNT
from worker.command import retry, stop


def test_a_stop_and_a_retry_by_command_stand_in_the_history_as_cli_user(local, monkeypatch):
    house = local(rules='[defaults]\nmax_duration = "1h"\n')
    for module in (retry, stop):
        monkeypatch.setattr(module, "open_ledger", lambda **_: (house.settings, house.ledger))
    call = house.provider.call(to_number="918065550101")
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    for command, options in (
        (retry.retry, f"{recording.recording_id} --reason 'again, 918065550101'"),
        (stop.stop, f"{recording.recording_id} --wait 10"),
    ):
        done = CliRunner().invoke(command, shlex.split(options))
        assert done.exit_code == 0, done.output
    found = house.ledger.history(ACCOUNT, until=house.ledger.now() + timedelta(seconds=1))
    user = f"cli:{getpass.getuser()}"
    assert [(e.said["what"], e.said["who"], e.said["reason"]) for e in found] == [
        ("retry", user, "again, …"),
        ("stop", user, "operator"),
    ]
    assert {e.said["recording_id"] for e in found} == {recording.recording_id}
    events = house.ledger.events(ACCOUNT, call.call_uuid)
    assert [e.by for e in events if e.kind.value in {"StopOrdered", "RetryOrdered"}] == [user] * 2
