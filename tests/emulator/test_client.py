"""The client: it starts an emulator in a process of its own, asks it, and ends it."""

import pytest
import requests

from emulator.client import Control, started
from tests.waiting import until


def test_a_started_emulator_does_what_its_control_api_is_asked_and_ends_with_the_context(inbox):
    with started("MA_C", "tok", inbox.url, seed=3) as where:
        control = Control(where.control_url)
        call = control.call(to_number="918065550101")
        recording = control.record(call, container="wav")
        control.event(call, "DialConnected")
        control.hangup(call)
        until(lambda: "RecordStop" in inbox.events())
        assert [row["recording_id"] for row in control.recordings()] == [recording]
        assert control.ask("GET", "idle?timeout=5") == {"idle": True}
        sent = {entry["event"] for entry in control.log() if entry["kind"] == "callback"}
        assert {"DialConnected", "Hangup", "RecordStop"} <= sent
        row = requests.get(
            f"{where.api_url}/Account/MA_C/Recording/{recording}/",
            headers={"X-Auth-ID": "MA_C", "X-Auth-Token": "tok"},
            timeout=5,
        ).json()
        assert row["recording_url"].startswith(f"http://{where.media_host}/")

    def is_gone():
        try:
            return not control.request("GET", "state")
        except requests.ConnectionError:
            return True

    assert until(is_gone)


def test_bad_days_come_and_go_and_what_is_refused_raises(provider):
    control = Control(provider.control_url)
    control.bad_day("api-429", retry_after=7)
    assert provider.faults.listing()["on"]["api-429"]["retry_after"] == 7
    control.good_days()
    assert provider.faults.listing()["on"] == {}
    with pytest.raises(requests.HTTPError, match="404"):
        control.hangup("no-such-call")


def test_an_emulator_that_does_not_start_says_so(tmp_path):
    log = tmp_path / "emulator.log"
    with pytest.raises(RuntimeError, match="status 2"), started("MA_C", "a:b:c", "", log=log):
        pass
    assert "ID:TOKEN" in log.read_text()
