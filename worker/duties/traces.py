"""Traces by OpenTelemetry: off, and free of cost, unless its own variable names a collector and the
extra `traces` is installed.
"""

from __future__ import annotations

import importlib
import os
import threading
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import structlog

from worker.calls import spans
from worker.calls.call import Call
from worker.calls.events import Event

log = structlog.get_logger()
# https://opentelemetry.io/docs/specs/otel/protocol/exporter/
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_S = 2.0
_making = threading.Lock()


class Exporter(Protocol):
    """Sends traces from a thread of its own."""

    def export(self, name: str, trace: list[spans.Span]) -> None:
        """`name`: the trace is the same for the same name."""

    def flush(self, within_s: float) -> None: ...


def archived(call: Call, event: Event) -> None:
    """Exports the trace of a recording that has just been archived."""
    if _is_on() and (exporter := _exporter()):
        trace = spans.of_recording(call, event, datetime.now(UTC))
        if trace:
            exporter.export(f"{call.account}|{event.recording_id}", trace)


def flush() -> None:
    """Sends what this process has not sent yet, before it ends."""
    if _is_on() and (exporter := _exporter()):
        exporter.flush(_FLUSH_S)


def _is_on() -> bool:
    return any(os.environ.get(name) for name in _ENDPOINTS)


def _exporter() -> Exporter | None:
    with _making:  # else two threads might make one each
        return _exporter_of(os.getpid())


@lru_cache(maxsize=1)
def _exporter_of(_process: int) -> Exporter | None:
    """The exporter of this process, since threads do not survive a fork."""
    try:
        made: Exporter = importlib.import_module("worker.duties.trace_export").Otlp()
    except ImportError as error:
        log.warning("no traces", error=f"{error}; pip install 'endtape[traces]'")
        return None
    return made
