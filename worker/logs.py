"""Logs to standard error, as text or JSON, without secrets.

A secret is hidden three times over: by the name of the value, by its place in a callback's path,
and by what it is. The last holds for whatever another library says, tracebacks included. A line
that cannot be written is lost, and whoever wrote it goes on.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO, cast

import structlog

HIDDEN = "(hidden)"
_SHORTEST = 8  # what is shorter would be found in ordinary words
_SECRET = re.compile(
    r"(auth[-_]?token|api[-_]?key|authorization|signature|secret|password)", re.IGNORECASE
)
_PATH_TOKEN = re.compile(r"(/vobiz/[^/\s]+/)[^/\s?\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_UNWRITTEN = (
    OSError,
    ValueError,
    AttributeError,
)  # a full disk or a reader that has gone; closed; there is none

_known: set[str] = set()
_said: dict[tuple[str, ...], float] = {}


def hide(secrets: Iterable[str]) -> None:
    """From now on these never appear in a log of this process. What is shorter than eight
    characters is left out.
    """
    _known.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def clean(text: str) -> str:
    """`text` without known secrets and without tokens of callback paths."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _PATH_TOKEN.sub(rf"\1{HIDDEN}", text)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides values of telling names, secrets and path tokens; a value that is text stays on its
    line.
    """
    for name, value in event.items():
        event[name] = HIDDEN if _SECRET.search(name) else _cleaned(value, lines=name == "exception")
    return event


def _cleaned(value: Any, *, lines: bool = False) -> Any:
    if isinstance(value, str):
        return clean(value) if lines else _CONTROL.sub("?", clean(value))
    if isinstance(value, list | tuple | set):
        return [_cleaned(v) for v in value]
    if isinstance(value, dict):
        return {k: HIDDEN if _SECRET.search(str(k)) else _cleaned(v) for k, v in value.items()}
    return (
        value
        if value is None or isinstance(value, int | float)
        else _CONTROL.sub("?", clean(repr(value)))
    )


def seldom(*about: object, every_s: float = 60.0) -> bool:
    """True for the first of those in this process that are about to say the same within a minute.
    Errors are the same when they are of one kind and begin alike: what follows the colon may be an
    address, or the library's objects.
    """
    # Without a lock: a child may be forked while another thread holds it. At worst a line comes
    # twice.
    key, now = tuple(_kind(fact) for fact in about), time.monotonic()
    if now - _said.get(key, -every_s) < every_s:
        return False
    if len(_said) > 10_000:
        _said.clear()
    _said[key] = now
    return True


def _kind(fact: object) -> str:
    return (
        f"{type(fact).__name__}: {str(fact).partition(':')[0]}"
        if isinstance(fact, BaseException)
        else str(fact)
    )


class _StandardError:
    """Standard error as it is when something is written."""

    def write(self, text: str) -> None:
        with contextlib.suppress(*_UNWRITTEN):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(*_UNWRITTEN):
            sys.stderr.flush()


_STANDARD_ERROR = cast("TextIO", _StandardError())


class _Clean(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def set_up(form: str, secrets: Iterable[str] = ()) -> None:
    """`text` or `json`; `secrets` are hidden. Other libraries' warnings go the same way."""
    hide(secrets)
    # A traceback is text before it is redacted, and tells no variables: those of a request hold
    # headers and environment.
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=_STANDARD_ERROR),
        cache_logger_on_first_use=True,
    )
    console = logging.StreamHandler(_STANDARD_ERROR)
    console.setFormatter(_Clean("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[console])
