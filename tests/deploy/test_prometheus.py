"""The alerts and the dashboard in `deploy/`, beside a real Prometheus that scrapes a real `web`.

The durations of the rules are shortened to seconds, so that each alert fires within the test. Their
own durations are played by `promtool test rules`.
"""

import json
import re
import shutil
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from tests.builders import obligation
from tests.conftest import Behind
from tests.constants import ACCOUNT, KEY
from tests.waiting import until
from webhooks.app import create_web
from worker.calls.obligations import Duty
from worker.ledger.notices import Failing
from worker.processes.supervisor import ROOT, free_port
from worker.settings import Settings

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "endtape.rules.yml"
ALERTS = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
DASHBOARD = json.loads((DEPLOY / "grafana" / "endtape.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus: the alerts and the dashboard are not played",
)
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: endtape
    authorization: {{credentials: {key}}}
    static_configs: [{{targets: ["{here}", "127.0.0.1:1"]}}]
"""


def shortened(rules):
    """The same rules in seconds."""
    rules = re.sub(r"\bfor: \d+[mh]", "for: 0s", rules)
    return re.sub(r"\[\d+[mh]\]", "[6s]", rules).replace("offset 10m", "offset 6s")


class Unwell:
    """Everything that an alert is about, in one ledger; what is counted grows all the time."""

    def __init__(self, ledger):
        self._ledger, self._ended = ledger, threading.Event()
        ledger.halt(ACCOUNT)
        ledger.degrade("archive@here", "No space left on device")
        for duty in (Duty.PLAN, Duty.FETCH):
            owed = obligation(duty, "c", "r" if duty is Duty.FETCH else None)
            ledger.owe(owed, ledger.now() - timedelta(hours=1))
        ledger.redis.hset(ledger.key("unfinished"), f"look|{ACCOUNT}|c", 9)
        ledger.note_failing(
            Failing(
                account=ACCOUNT,
                call_uuid="c",
                endpoint="e",
                notice="n",
                type="stop.unknown",
                url="https://app.example.com",
                tries=3,
                why="answered 410",
                given_up=True,
            )
        )
        gauges = {f"stops_unproven|{ACCOUNT}": 1, f"recordings|{ACCOUNT}|abandoned": 2}
        told = {"at": ledger.now().timestamp() - 3000, "gauges": gauges}
        ledger.redis.set(ledger.key("gauges"), json.dumps(told))
        self._thread = threading.Thread(target=self._grow, daemon=True)

    def _grow(self):
        """Each histogram has all that is counted above its last bound."""
        durations = ("lateness", "confirmation", "tail", "home")
        counted = {f"{name}_bucket|{top}": 0 for name in durations for top in (1, 60, 900)}
        counted |= {f"{name}_count": 1 for name in durations}
        for name in (
            "alerts_total|degraded",
            "refused_total|wrong",
            "refused_total|key",
            "abandoned_total|storage",
            f"ledger_gaps_total|{ACCOUNT}|missing",
            "rate_limit_waits_total|stop",
            "provider_requests_total|stop|503",
        ):
            counted[name] = 5
        while not self._ended.wait(0.5):
            self._ledger.count(counted)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


@pytest.fixture
def web(ledger, tmp_path):
    """The address of a `web` without any worker."""
    ended, port = threading.Event(), free_port()
    env = {
        "VOBIZ_AUTH_ID": ACCOUNT,
        "VOBIZ_AUTH_TOKEN": "t",
        "ENDTAPE_CALLBACK_TOKEN": "c" * 16,
        "ENDTAPE_API_KEY": KEY,
        "REDIS_URL": "redis://127.0.0.1:1",
        "ENDTAPE_CATALOG": f"sqlite:///{tmp_path / 'catalog.db'}",
    }
    served = create_web(Settings.from_env(env, folder=tmp_path), ledger, ended)
    server = Behind(served.application, served.door, served.open_pages, port)
    server.start()
    yield f"127.0.0.1:{port}"
    ended.set()
    server.stop()


@pytest.fixture
def prometheus(web, ledger, tmp_path):
    """A Prometheus that scrapes a `web` of a service that is as unwell as can be. Gives what asks
    it.
    """
    port = free_port()
    (tmp_path / "rules.yml").write_text(shortened(RULES.read_text()))
    config = CONFIG.format(key=KEY, here=web)
    (tmp_path / "prometheus.yml").write_text(config)
    with Unwell(ledger), (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield lambda path, **ask: requests.get(
                f"http://127.0.0.1:{port}/api/v1/{path}", params=ask, timeout=10
            ).json()
        finally:
            process.terminate()
            process.wait(10)


def firing(ask):
    try:
        alerts = ask("alerts")["data"]["alerts"]
    except requests.RequestException:
        return set()  # it starts
    return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}


@pytest.mark.end_to_end
@needs_prometheus
def test_each_alert_fires_in_a_real_prometheus_and_each_query_of_the_dashboard_is_answered(
    prometheus,
):
    left = set(ALERTS)

    def all_fired():
        left.difference_update(firing(prometheus))
        return not left

    try:
        until(all_fired, 60)
    except AssertionError:
        pytest.fail(f"did not fire: {sorted(left)}")
    for query in QUERIES:
        asked = query.replace("$__rate_interval", "6s").replace("$account", ".*")
        answer = prometheus("query", query=asked)
        assert answer["status"] == "success", (query, answer)
    # Each metric that is named is one that is scraped.
    scraped = set(prometheus("label/__name__/values")["data"])
    named = {n for text in (RULES.read_text(), *QUERIES) for n in re.findall(r"endtape_\w+", text)}
    assert len(named) > 20
    counted_later = {"endtape_handoff_seconds_bucket", "endtape_provider_request_seconds_bucket"}
    assert named - scraped <= {
        *counted_later,
        "endtape_events_total",
        "endtape_healed_total",
        "endtape_notifications_total",
        "endtape_notifications_failed_total",
        "endtape_rate_limit_wait_seconds_total",
    }


@needs_prometheus
def test_the_rules_and_the_example_are_what_prometheus_takes_and_keep_to_their_durations():
    for words in (
        ["check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")],
        ["test", "rules", str(Path(__file__).parent / "alerts_test.yml")],
    ):
        found = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def test_every_metric_of_an_alert_or_panel_is_one_that_is_served():
    served = (ROOT / "webhooks" / "api" / "metrics.py").read_text()
    for text in (RULES.read_text(), *QUERIES):
        for name in re.findall(r"endtape_(\w+?)(?:_bucket)?\b", text):
            assert re.search(rf'"(endtape_)?{name}"', served), name


def test_every_alert_says_what_it_means_and_what_to_do():
    for rule in re.split(r"\n\s+- alert: ", RULES.read_text())[1:]:
        assert re.search(r"severity: (critical|warning)", rule), rule
        assert re.search(r"summary: .+\n\s+action: .+", rule), rule
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name in sorted(ALERTS) if f"`{name}`" not in page] == []
