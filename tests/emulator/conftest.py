"""A receiver of callbacks, and the stand-in with an account, its sub-account and bad days that pass
quickly."""

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
    """One that looks neither at proxies nor at netrc."""
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
    """Every request that arrived. It answers with `statuses`, one each, then 200."""

    def __init__(self, host):
        self.root, self.url = f"http://{host}", f"http://{host}/cb"
        self.arrived, self.statuses = [], deque()

    def wait(self, number):
        until(lambda: len(self.arrived) >= number)
        return self.arrived

    def events(self):
        return [found.event for found in self.arrived]


@pytest.fixture
def inbox():
    class Box(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.arrived.append(Arrived(self.command, self.path, dict(self.headers), body))
            self.send_response(found.statuses.popleft() if found.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Box)
    server.daemon_threads = True
    found = Inbox(f"127.0.0.1:{server.server_address[1]}")
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    yield found
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
    ) as found:
        yield found


class Rest:
    """Requests to the stand-in in the name of an account."""

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
    """Makes a finished recording of some seconds on a live call."""

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
def soon():
    return until


@pytest.fixture
def sample():
    """A fixture of the provider's wire, by its name: fields of a callback, or JSON."""

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


class Day:
    """What a bad day's test needs."""

    def __init__(self, provider, rest, inbox, finished, soon):
        self.provider, self.rest, self.inbox, self.finished, self.soon = (
            provider,
            rest,
            inbox,
            finished,
            soon,
        )

    def on(self, name, **params):
        self.provider.faults.switch_on(name, **params)

    def stop(self, *, named=False):
        """A stop of a new call's recording, by its address if `named`: the answer, and the
        recording."""
        call = self.provider.call()
        recording = self.provider.record(call.call_uuid, announce=False)
        return self.rest.delete(
            f"Call/{call.call_uuid}/Record/", json={"URL": recording.url} if named else None
        ), recording

    def start(self):
        """A start on a new call: the answer, None without one, and what records on the call
        then."""
        call = self.provider.call()
        answer = self.asked(f"Call/{call.call_uuid}/Record/", {})
        return answer, self.provider.book.running(call.call_uuid)

    def transfer(self):
        """A transfer of a new call: the answer, None without one, and the events that arrived of
        it."""
        call = self.provider.call()
        answer = self.asked(f"Call/{call.call_uuid}/", {"aleg_url": self.inbox.url})
        assert self.provider.wait_idle(5)
        return answer, self.inbox.events()

    def asked(self, path, body):
        try:
            return self.rest.post(path, json=body)
        except requests.ConnectionError:
            return None

    def told(self, number=1):
        """Sends so many events and gives what arrived when all is quiet."""
        for i in range(number):
            self.provider.event(self.provider.call().call_uuid, "Ring", Nth=str(i))
        assert self.provider.wait_idle(5)
        return self.inbox.arrived


@pytest.fixture
def day(provider, rest, inbox, finished, soon):
    return Day(provider, rest, inbox, finished, soon)
