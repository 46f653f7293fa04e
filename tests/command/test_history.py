"""What a person does by a command stands in the history, with that person's name."""

import getpass
import shlex
from datetime import timedelta

from click.testing import CliRunner

from tests.catalogue.builders import receipt
from tests.constants import ACCOUNT
from worker.calls.events import Kind
from worker.catalogue import rows
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


def test_retry_takes_up_what_only_the_catalogue_knows_as_given_up(local, monkeypatch):
    house = local()
    monkeypatch.setattr(retry, "open_ledger", lambda **_: (house.settings, house.ledger))
    said = receipt(0) | {"account": ACCOUNT, "reason": "the provider deleted it"}
    gone = receipt(1) | {"account": ACCOUNT}
    house.worker.catalogue.enter(
        [
            rows.of_absence(said, f"{ACCOUNT}/2026/09/14/rec-000.absent"),
            rows.of_receipt(gone, f"{ACCOUNT}/2026/09/14/rec-001.mp3"),
        ]
    )
    done = CliRunner().invoke(retry.retry, ["rec-000", "rec-001", "rec-002"])
    assert (done.exit_code, "rec-000: will be tried again now" in done.stdout) == (1, True)
    assert "rec-001: it is archived already, as" in done.stderr
    assert "rec-002: no such recording" in done.stderr
    # A worker may try what is listed again before the order comes.
    kinds = [kind for kind in house.kinds("call-000") if kind is not Kind.FETCH_FAILED]
    assert kinds[:3] == [Kind.ABSENCE_FILED, Kind.RECORDING_LISTED, Kind.RETRY_ORDERED]
