"""A receiver of callbacks, and an emulator with an account and its sub-account."""

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from emulator.accounts import Account
from emulator.client import Control
from emulator.provider import Provider
from tests.waiting import until

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def quiet_session():
    """A session that uses neither proxies nor netrc."""
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass
class Arrived:
    method: str
    target: str
    headers: dict
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def fields(self):
        if self.headers.get("Content-Type") == "application/json":
            return json.loads(self.body)
        text = urlsplit(self.target).query if self.method == "GET" else self.body.decode()
        return dict(parse_qsl(text, keep_blank_values=True))

    @property
    def event(self):
        return self.fields.get("Event")


class Inbox:
    """Keeps every request. It answers with `statuses`, one each, then with 200."""

    def __init__(self, host):
        self.root, self.url = f"http://{host}", f"http://{host}/cb"
        self.arrived, self.statuses = [], deque()

    def wait(self, number):
        until(lambda: len(self.arrived) >= number)
        return self.arrived

    def events(self):
        return [callback.event for callback in self.arrived]


@pytest.fixture
def inbox():
    class Box(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept.arrived.append(Arrived(self.command, self.path, dict(self.headers), body))
            self.send_response(kept.statuses.popleft() if kept.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Box)
    server.daemon_threads = True
    kept = Inbox(f"127.0.0.1:{server.server_address[1]}")
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def provider(inbox):
    accounts = [
        Account("MA_E", "tok", trunk_secret="trunk-secret"),
        Account("SA_E", "subtok", parent="MA_E"),
    ]
    with Provider(
        callback_url=inbox.url, accounts=accounts, retry_base_s=0.02, finalise_s=0.01
    ) as emulated:
        yield emulated


class Rest:
    """REST requests in the name of an account."""

    def __init__(self, provider, account="MA_E", token="tok"):
        self.root, self.account = provider.api_url, account
        self.headers, self.http = {"X-Auth-ID": account, "X-Auth-Token": token}, quiet_session()

    def ask(self, method, path, **how):
        return self.http.request(
            method,
            f"{self.root}/Account/{self.account}/{path}",
            headers=self.headers,
            timeout=5,
            **how,
        )

    def get(self, path, **how):
        return self.ask("GET", path, **how)

    def post(self, path, **how):
        return self.ask("POST", path, **how)

    def delete(self, path, **how):
        return self.ask("DELETE", path, **how)

    def media(self, recording, **how):
        return self.http.get(
            recording.url, headers=self.headers, timeout=5, allow_redirects=False, **how
        )


@pytest.fixture
def rest(provider):
    return Rest(provider)


@pytest.fixture
def rest_of(provider):
    return lambda account, token: Rest(provider, account, token)


@pytest.fixture
def finished(provider):
    """A function that makes a finished recording of some seconds on a live call."""

    def make(call_uuid=None, seconds=2.0, **how):
        uuid = call_uuid or provider.call().call_uuid
        recording = provider.record(uuid, **how)
        recording.started_at -= seconds
        provider.end(recording.recording_id, "FinishedOnKey")
        until(lambda: recording.listed_at)
        return recording

    return make


@pytest.fixture
def control(provider):
    client = Control(provider.control_url)
    return lambda method, path, /, **body: client.request(method, path, body)


@pytest.fixture
def sample():
    """A function that reads a captured message of the provider: fields of a callback, or JSON."""

    def read(name):
        text = (FIXTURES / name).read_text()
        if name.endswith(".json"):
            return json.loads(text)
        return dict(
            parse_qsl(
                urlsplit(text.strip()).query if name.endswith(".txt") else text,
                keep_blank_values=True,
            )
        )

    return read


class BadDay:
    """What a bad day's test does with the emulator and sees of it."""

    def __init__(self, provider, rest, inbox, finished):
        self.provider, self.rest, self.inbox, self.finished = provider, rest, inbox, finished

    def on(self, name, **parameters):
        self.provider.faults.switch_on(name, **parameters)

    def stop(self, *, named=False):
        """Stops a new call's recording, by its address when `named`. Returns answer and recording."""
        call = self.provider.call()
        recording = self.provider.record(call.call_uuid, announce=False)
        return self.rest.delete(
            f"Call/{call.call_uuid}/Record/", json={"URL": recording.url} if named else None
        ), recording

    def start(self):
        """Starts a recording on a new call. Returns the answer (None when the connection was
        dropped) and the recordings that run then.
        """
        call = self.provider.call()
        answer = self._post(f"Call/{call.call_uuid}/Record/", {})
        return answer, self.provider.book.running(call.call_uuid)

    def transfer(self):
        """Transfers a new call. Returns the answer (None when the connection was dropped) and the
        events of which callbacks arrived.
        """
        call = self.provider.call()
        answer = self._post(f"Call/{call.call_uuid}/", {"aleg_url": self.inbox.url})
        assert self.provider.wait_idle(5)
        return answer, self.inbox.events()

    def _post(self, path, body):
        try:
            return self.rest.post(path, json=body)
        except requests.ConnectionError:
            return None

    def callbacks(self, number=1):
        """Sends so many events. Returns the callbacks that have arrived when all is quiet."""
        for i in range(number):
            self.provider.event(self.provider.call().call_uuid, "Ring", Nth=str(i))
        assert self.provider.wait_idle(5)
        return self.inbox.arrived


@pytest.fixture
def bad_day(provider, rest, inbox, finished):
    return BadDay(provider, rest, inbox, finished)
