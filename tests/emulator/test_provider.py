"""The emulator as a library: events of its calls, and the files that result."""

import socket
import threading
from io import BytesIO
from urllib.parse import urlsplit

import pytest
import requests
from tinytag import TinyTag

from emulator.accounts import Account, read
from emulator.provider import Provider
from emulator.timers import Timers
from tests.waiting import until


def test_a_stop_answers_204_also_when_nothing_is_recording_and_404_when_the_call_is_over(
    provider, rest
):
    call = provider.call()
    path = f"Call/{call.call_uuid}/Record/"
    assert rest.delete(path).status_code == 204
    provider.hangup(call.call_uuid)
    answer = rest.delete(path)
    assert (answer.status_code, set(answer.json())) == (404, {"api_id", "error"})


def test_a_stop_by_url_ends_that_recording_and_an_unmatched_one_ends_none(provider, rest):
    call = provider.call()
    one, two = provider.record(call.call_uuid), provider.record(call.call_uuid)
    path = f"Call/{call.call_uuid}/Record/"
    rest.delete(path, json={"URL": "https://elsewhere/x.mp3"})
    assert (one.ended_at, two.ended_at) == (None, None)
    rest.delete(path, json={"URL": one.url})
    assert one.ended_at
    assert two.ended_at is None
    rest.delete(path)
    assert two.end_reason == "StoppedByAPI"


@pytest.mark.parametrize("container", ["mp3", "wav"])
@pytest.mark.parametrize("channels", [1, 2])
def test_media_last_as_long_as_the_recording(rest, finished, container, channels):
    recording = finished(seconds=7, container=container, channels=channels)
    answer = rest.media(recording)
    assert answer.headers["Content-Type"] == {"mp3": "audio/mpeg", "wav": "audio/wav"}[container]
    assert int(answer.headers["Content-Length"]) == len(answer.content) == recording.audio().size
    tag = TinyTag.get(filename=f"x.{container}", file_obj=BytesIO(answer.content))
    assert (
        abs(tag.duration - recording.duration_ms / 1000) < 0.2,
        tag.channels,
        tag.samplerate,
    ) == (True, channels, 8000)


def test_a_recording_ends_at_its_limit_and_says_so(provider, inbox):
    call = provider.call()
    recording = provider.record(call.call_uuid, max_length_s=0.05)
    inbox.wait(2)
    assert inbox.arrived[1].fields["RecordingEndReason"] == recording.end_reason == "maxLength"


def test_a_hang_up_is_told_before_the_end_of_the_recording_and_signed(provider, inbox):
    call = provider.call()
    provider.record(call.call_uuid)
    provider.hangup(call.call_uuid)
    inbox.wait(3)
    assert inbox.events() == ["Record", "Hangup", "RecordStop"]
    assert all(
        "X-Vobiz-Signature-V3" in found.headers and found.headers["User-Agent"] == "Vobiz"
        for found in inbox.arrived
    )
    assert inbox.arrived[0].fields["RecordingDurationMs"] == "-1"
    with pytest.raises(KeyError):
        provider.hangup(call.call_uuid)


def test_a_hang_up_within_a_dial_tells_of_both_legs_in_their_order(provider, inbox):
    call = provider.call()
    provider.dial(call.call_uuid, "918065550199")
    provider.hangup(call.call_uuid)
    assert provider.wait_idle(5)
    assert inbox.events() == ["DialAnswer", "DialConnected", "DialHangup", "Hangup", "Redirect"]


def test_a_stand_in_without_callbacks_sends_none(inbox):
    with Provider(callback_url=inbox.url, callbacks=False) as quiet:
        call = quiet.call()
        quiet.record(call.call_uuid)
        quiet.hangup(call.call_uuid)
        assert quiet.wait_idle(1)
    assert inbox.arrived == []


def test_a_burst_of_stops_finds_each_call_without_looking_at_the_others(provider, rest):
    calls = [provider.call() for _ in range(300)]
    made = [
        provider.record(call.call_uuid, announce=False, callback_url="http://127.0.0.1:9/")
        for call in calls
    ]
    assert rest.delete(f"Call/{calls[7].call_uuid}/Record/").status_code == 204
    assert [recording for recording in made if recording.ended_at] == [made[7]]
    assert provider.book.running(calls[7].call_uuid) == []
    assert provider.book.running(calls[8].call_uuid) == [made[8]]


def test_accounts_are_read_with_their_parents_and_an_unknown_parent_is_refused():
    assert read("SA_1:tok:MA_1") == Account("SA_1", "tok", "MA_1")
    assert (Account("MA_1", "t").mode, Account("SA_1", "t", "MA_1").mode) == ("v3+v2", "ma")
    assert "tok" not in repr(Account("MA_1", "tok", trunk_secret="tok"))
    for text in ("MA_1", "MA_1:", "a:b:c:d"):
        with pytest.raises(ValueError, match="ID:TOKEN"):
            read(text)
    with pytest.raises(ValueError, match="MA_9"):
        Provider(accounts=[Account("SA_1", "tok", "MA_9")])


@pytest.mark.parametrize(
    "how",
    [
        {"container": "ogg"},
        {"source": "magic"},
        {"source": "trunk"},
        {"spelling": "loud"},
        {"encoding": "xml"},
        {"callback_method": "GET", "encoding": "json"},
        {"callback_method": "GET", "encoding": "multipart"},
    ],
)
def test_a_recording_that_cannot_be_is_refused(provider, how):
    call = provider.call()
    with pytest.raises(ValueError, match=r"\w"):
        provider.record(call.call_uuid, **how)
    assert provider.book.running(call.call_uuid) == []


def test_a_client_that_goes_away_leaves_a_line_in_the_journal_and_none_on_the_terminal(
    provider, finished, capfd
):
    recording = finished(seconds=3000, container="wav")
    parts = urlsplit(recording.url)
    with socket.create_connection((parts.hostname, parts.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: x\r\nX-Auth-ID: MA_E\r\nX-Auth-Token: tok\r\n\r\n".encode()
        )
        assert client.recv(100)
    gone = until(lambda: [entry for entry in provider.journal.since() if entry["kind"] == "gone"])
    assert gone[0]["path"] == parts.path
    assert capfd.readouterr().err == ""


def test_a_broken_step_is_one_line_and_the_next_step_follows():
    troubles, done = [], threading.Event()
    timers = Timers(troubles.append)
    timers.after(0.001, lambda: 1 / 0)
    timers.after(0.002, done.set)
    assert done.wait(2)
    timers.close()
    assert [type(trouble) for trouble in troubles] == [ZeroDivisionError]


def test_media_are_for_their_owner_and_only_after_the_end(provider, rest, rest_of, finished):
    recording = finished()
    assert requests.get(recording.url, timeout=5).status_code == 401
    assert rest_of("SA_E", "subtok").media(recording).status_code == 401
    running = provider.record(recording.call_uuid)
    assert rest.media(running).status_code == 404


def test_a_recording_can_have_been_running_for_a_while(provider, rest):
    call = provider.call().call_uuid
    made = provider.record(call, container="wav", age_s=100)
    provider.end(made.recording_id, "HungUp")
    assert 100_000 <= made.duration_ms < 101_000
    assert [(r["container"], r["channels"]) for r in provider.state()["recordings"]] == [("wav", 1)]
