"""The stand-in is a product: its answers, its callbacks and its bad days, over HTTP."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs

import pytest
import requests
from tinytag import TinyTag

from emulator.provider import Provider

HEADERS = {"X-Auth-ID": "MA_E", "X-Auth-Token": "tok"}


@pytest.fixture
def inbox():
    found = []

    class Box(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.append((dict(self.headers), {k: v[0] for k, v in parse_qs(body, keep_blank_values=True).items()}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Box)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/cb", found
    server.shutdown()
    server.server_close()


@pytest.fixture
def provider(inbox):
    with Provider(callback_url=inbox[0], accounts={"MA_E": "tok"}, retry_base_s=0.05) as found:
        yield found


def account(provider, path):
    return f"{provider.api_url}/Account/MA_E/{path}"


def test_a_stop_answers_204_also_when_nothing_is_recording_and_404_when_the_call_is_over(provider):
    call = provider.call()
    url = account(provider, f"Call/{call.call_uuid}/Record/")
    assert requests.delete(url, headers=HEADERS, timeout=5).status_code == 204
    provider.hangup(call.call_uuid)
    answer = requests.delete(url, headers=HEADERS, timeout=5)
    assert (answer.status_code, "error" in answer.json()) == (404, True)
    assert requests.delete(url, timeout=5).status_code == 401
    assert requests.get(f"{provider.api_url}/nothing", headers=HEADERS, timeout=5).json() == {"message": "Not Found"}


def test_a_stop_by_url_ends_that_recording_and_an_unmatched_one_ends_none(provider):
    call = provider.call()
    one, two = provider.record(call.call_uuid), provider.record(call.call_uuid)
    url = account(provider, f"Call/{call.call_uuid}/Record/")
    requests.delete(url, json={"URL": "https://elsewhere/x.mp3"}, headers=HEADERS, timeout=5)
    assert (one.ended_at, two.ended_at) == (None, None)
    requests.delete(url, json={"URL": one.url}, headers=HEADERS, timeout=5)
    assert one.ended_at
    assert two.ended_at is None


@pytest.mark.parametrize("container", ["mp3", "wav"])
def test_media_last_as_long_as_the_recording(provider, container):
    call = provider.call()
    recording = provider.record(call.call_uuid, container=container, channels=2)
    recording.started_at -= 7
    provider.end(recording.recording_id, "HungUp")
    assert provider.wait_idle(5)
    assert requests.get(recording.url, timeout=5).status_code in {401, 404}
    audio = b""
    while not audio:
        answer = requests.get(recording.url, headers=HEADERS, timeout=5)
        audio = answer.content if answer.status_code == 200 else b""
    tag = TinyTag.get(filename=f"x.{container}", file_obj=BytesIO(audio))
    assert abs(tag.duration - recording.duration_ms / 1000) < 0.2


def test_a_hang_up_is_told_before_the_end_of_the_recording_and_signed(provider, inbox):
    call = provider.call()
    provider.record(call.call_uuid)
    provider.wait_idle(5)
    provider.hangup(call.call_uuid)
    while len(inbox[1]) < 3:
        provider.wait_idle(5)
    assert [fields["Event"] for _, fields in inbox[1]] == ["Record", "Hangup", "RecordStop"]
    assert all("X-Vobiz-Signature-V3" in headers for headers, _ in inbox[1])
    assert inbox[1][0][1]["RecordingDurationMs"] == "-1"


def test_bad_days_are_named_and_used_up(provider):
    call = provider.call()
    provider.faults.switch_on("stop-fails-first", times=2)
    url = account(provider, f"Call/{call.call_uuid}/Record/")
    assert [requests.delete(url, headers=HEADERS, timeout=5).status_code for _ in range(3)] == [503, 503, 204]
    with pytest.raises(KeyError):
        provider.faults.switch_on("no-such-day")
