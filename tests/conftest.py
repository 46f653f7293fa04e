"""Real servers for tests: a Redis of our own, and the whole service with the emulator."""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from emulator.provider import Provider
from worker.embedded import EmbeddedRedis
from worker.ledger import Ledger, connect
from worker.supervise import Supervisor, free_port

ACCOUNT, TOKEN, CALLBACK_TOKEN, KEY = "MA_TEST0001", "test-auth-token", "test-callback-token-0001", "test-api-key-000000001"


def until(condition, within_s=15):
    """Waits for a condition, and gives its value."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.03)


@pytest.fixture(scope="session")
def redis_server():
    folder = Path(tempfile.mkdtemp(prefix="et"))
    with EmbeddedRedis(folder, fsync="no") as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ledger(redis_server):
    prefix = f"{{test{os.getpid()}{time.monotonic_ns()}}}:"
    client = connect(redis_server.url)
    yield Ledger(client, prefix)
    keys = list(client.scan_iter(f"{prefix.replace('{', '[{]')}*"))
    if keys:
        client.delete(*keys)


@dataclass
class Service:
    """Every process, with the emulator at the other end."""

    base: str
    provider: Provider
    processes: Supervisor
    redis: EmbeddedRedis
    archive: Path
    callback: str
    http: requests.Session = field(default_factory=requests.Session)

    def get(self, path):
        return self.http.get(self.base + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)

    def recording(self, recording_id):
        try:
            answer = self.get(f"/v1/recordings/{recording_id}")
        except requests.RequestException:
            return {"phase": None, "stop": {"state": None}}
        return answer.json() if answer.status_code == 200 else {"phase": None, "stop": {"state": None}}

    def reach(self, recording_id, phase, within_s=20):
        return until(lambda: (v := self.recording(recording_id))["phase"] == phase and v, within_s)

    def stops_sent(self, call_uuid):
        return [e for e in self.provider.journal.since() if e["kind"] == "request" and e["method"] == "DELETE" and call_uuid in e["path"]]


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
def service():
    folder = Path(tempfile.mkdtemp(prefix="et"))
    (folder / "endtape.toml").write_text(RULES)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    callback = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
    redis = EmbeddedRedis(folder / "redis")
    redis.start()
    with Provider(callback_url=callback, accounts={ACCOUNT: TOKEN}, retry_base_s=0.2) as provider:
        env = {
            "VOBIZ_AUTH_ID": ACCOUNT, "VOBIZ_AUTH_TOKEN": TOKEN, "VOBIZ_API_URL": provider.api_url, "VOBIZ_MEDIA_HOSTS": provider.media_host,
            "REDIS_URL": redis.url, "CELERY_BROKER_URL": "", "PORT": str(port), "HOST": "127.0.0.1", "ENDTAPE_PUBLIC_URL": base,
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN, "ENDTAPE_API_KEY": KEY, "ENDTAPE_ARCHIVE": str(folder / "archive"),
            "ENDTAPE_SPOOL": str(folder / "spool"), "ENDTAPE_CONFIG": str(folder / "endtape.toml"), "ENDTAPE_API_RATE": "100",
        }
        with Supervisor(env, folder / "log") as processes:
            try:
                processes.wait_ready(base)
                yield Service(base, provider, processes, redis, folder / "archive", callback)
            except Exception:
                print((folder / "log").read_text()[-5000:])
                raise
    redis.stop()
    shutil.rmtree(folder, ignore_errors=True)
