"""Logs to standard error, as text or JSON, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET = re.compile(r"(auth[-_]?token|api[-_]?key|authorization|signature|secret|password)", re.IGNORECASE)
_PATH_TOKEN = re.compile(r"(/vobiz/[^/\s]+/)[^/\s?\"']+")


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides values of telling names, and the token in callback paths."""
    for name, value in event.items():
        if _SECRET.search(name):
            event[name] = "(hidden)"
        elif isinstance(value, str):
            event[name] = _PATH_TOKEN.sub(r"\1(hidden)", value)
    return event


def set_up(form: str) -> None:
    """`text` or `json`. Other libraries' warnings go the same way."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), redact, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr), cache_logger_on_first_use=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
