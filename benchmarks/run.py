"""`make bench`: lateness of stops through the real processes. The other rows of the table are still to be written."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator.provider import Provider
from worker.embedded import EmbeddedRedis
from worker.supervise import Supervisor, free_port

STOPS, RATE, DEADLINE_S = 500, 50, 3
ACCOUNT, TOKEN, CALLBACK_TOKEN, KEY = "MA_BENCH", "bench-auth-token", "bench-callback-token", "bench-api-key-0000000"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="et"))
    (folder / "endtape.toml").write_text(f'[defaults]\nmax_duration = "{DEADLINE_S}s"\n')
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with EmbeddedRedis(folder / "redis") as redis, Provider(
            callback_url=f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}", accounts={ACCOUNT: TOKEN}) as provider:
        env = {"VOBIZ_AUTH_ID": ACCOUNT, "VOBIZ_AUTH_TOKEN": TOKEN, "VOBIZ_API_URL": provider.api_url,
               "VOBIZ_MEDIA_HOSTS": provider.media_host, "REDIS_URL": redis.url, "PORT": str(port), "HOST": "127.0.0.1",
               "ENDTAPE_PUBLIC_URL": base, "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN, "ENDTAPE_API_KEY": KEY,
               "ENDTAPE_ARCHIVE": str(folder / "archive"), "ENDTAPE_SPOOL": str(folder / "spool"),
               "ENDTAPE_CONFIG": str(folder / "endtape.toml")}
        with Supervisor(env, folder / "log") as processes:
            processes.wait_ready(base)
            begin = time.monotonic()
            calls = []
            for i in range(STOPS):
                call = provider.call()
                provider.record(call.call_uuid)
                calls.append(call.call_uuid)
                time.sleep(max(0.0, begin + (i + 1) / RATE - time.monotonic()))
            time.sleep(DEADLINE_S + 3)
            arrived = {e["path"].split("/")[6]: e["at"] for e in reversed(provider.journal.since())
                       if e["kind"] == "request" and e["method"] == "DELETE"}
            late = []
            for call_uuid in calls:
                view = requests.get(f"{base}/v1/calls/{call_uuid}", headers={"Authorization": f"Bearer {KEY}"}, timeout=5).json()
                due_at = view["recordings"][0]["stop"]["due_at"]
                due = time.mktime(time.strptime(due_at[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(due_at[19:-1])
                late.append((arrived[call_uuid] - due) * 1000)
    cuts = statistics.quantiles(late, n=100)
    text = (f"Lateness of {len(late)} stops, {RATE} due a second: DELETE seen at the emulator minus due_at (ms resolution), all real processes, "
            f"Redis with fsync always\n| p50 ms | p99 ms | max ms | min ms |\n|---|---|---|---|\n"
            f"| {cuts[49]:.1f} | {cuts[98]:.1f} | {max(late):.1f} | {min(late):.1f} |\n")
    sys.stdout.write(text)
    (Path(__file__).parent / "results.md").write_text(text)


if __name__ == "__main__":
    main()
