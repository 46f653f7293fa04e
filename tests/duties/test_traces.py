"""One trace for each recording, from its first callback to the archived file."""

import hashlib
import importlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls.call import Call
from worker.duties import traces
from worker.processes.supervisor import ROOT

RULES = '[defaults]\nmax_duration = "1s"\nconfirm_within = "1s"\n'


@pytest.fixture
def collector():
    """Takes what is exported, as an OpenTelemetry collector does."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", received=received)
    server.shutdown()
    server.server_close()


@pytest.mark.redis
def test_a_recording_is_one_trace_from_its_callback_to_the_archived_file(
    local, collector, monkeypatch
):
    # Where .ci/run puts it, so that no other process of the tests loads it.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / ".venv" / "traces")])
    service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
        reason="no OpenTelemetry: the extra `traces` is not installed",
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    house = local(rules=RULES)
    call = house.provider.call(from_number="919820055512", to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "archived")
    until(lambda: traces.flush() or collector.received)
    (path, body), *more = collector.received
    request = service.ExportTraceServiceRequest.FromString(body)
    (resource,) = request.resource_spans
    whole, *parts = resource.scope_spans[0].spans
    assert (path, more) == ("/v1/traces", [])
    named = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert named["service.name"] == "endtape"
    digest = hashlib.sha256(f"{ACCOUNT}|{recording}".encode()).digest()
    assert {s.trace_id for s in (whole, *parts)} == {digest[:16]}
    assert {s.parent_span_id for s in parts} == {whole.span_id}
    assert {"stop", "stop request", "fetch"} <= {s.name for s in parts}
    assert {"RecordingStarted", "StopAccepted", "StopConfirmed"} <= {e.name for e in whole.events}
    told = {a.key: a.value.string_value for a in whole.attributes}
    assert told["endtape.archive_key"].startswith(f"{ACCOUNT}/")
    assert all(
        whole.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano for s in parts
    )
    assert whole.end_time_unix_nano >= max(s.end_time_unix_nano for s in parts)
    assert b"91806555" not in body
    assert b"91982005" not in body


def test_without_a_collector_nothing_of_it_is_loaded(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    loaded = []
    monkeypatch.setattr(importlib, "import_module", loaded.append)
    traces.archived(Call(account=ACCOUNT, call_uuid="c"), SimpleNamespace(recording_id="r"))
    traces.flush()
    assert loaded == []
