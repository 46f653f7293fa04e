"""Logs to standard error, as text or JSON, without secrets.

A secret is hidden in three ways: by the name of its field, by its place in a callback's path, and
by its value. The last also covers the lines of other libraries, and tracebacks. A line that cannot
be written is dropped; the code that logs it goes on.
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
_SHORTEST = 8  # shorter secrets would be found in ordinary words
_SECRET = re.compile(
    r"(auth[-_]?token|api[-_]?key|authorization|signature|secret|password)", re.IGNORECASE
)
_PATH_TOKEN = re.compile(r"(/vobiz/[^/\s]+/)[^/\s?\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# Standard error is on a full disk or its reader has gone; is closed; does not exist.
_UNWRITTEN = (OSError, ValueError, AttributeError)

_secrets: set[str] = set()
_logged_at: dict[tuple[str, ...], float] = {}


def hide(secrets: Iterable[str]) -> None:
    """From now on no log line of this process shows these. Secrets of fewer than eight characters
    are not hidden.
    """
    _secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def clean(text: str) -> str:
    """`text` without known secrets and without tokens of callback paths."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _PATH_TOKEN.sub(rf"\1{HIDDEN}", text)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides the values of fields named like secrets, known secrets, and tokens in paths. Replaces
    control characters, so that a text cannot begin a line of its own.
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
    """Whether to log about these facts: False when this process did within `every_s` seconds.

    Errors count as the same fact when their class and their text up to the first colon are equal:
    an address, or the repr of a library's object, may follow the colon.
    """
    # Without a lock, since a child may be forked while another thread holds it. At worst a line
    # comes twice.
    key, now = tuple(_kind(fact) for fact in about), time.monotonic()
    if now - _logged_at.get(key, -every_s) < every_s:
        return False
    if len(_logged_at) > 10_000:
        _logged_at.clear()
    _logged_at[key] = now
    return True


def _kind(fact: object) -> str:
    return (
        f"{type(fact).__name__}: {str(fact).partition(':')[0]}"
        if isinstance(fact, BaseException)
        else str(fact)
    )


class _StandardError:
    """Whatever standard error is at the moment of writing."""

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
    """Sets up the logs of this process, and the warnings of other libraries. `form`: text or json.
    `secrets` are hidden.
    """
    hide(secrets)
    # A traceback becomes text before `redact` sees it, and shows no variables: those of a request
    # hold its headers and environment.
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
