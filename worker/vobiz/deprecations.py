"""What the provider says in its answers about the end of its API: `Deprecation` (RFC 9745) and
`Sunset` (RFC 8594).

Answers come in threads that must not wait for Redis, so this process only keeps the words until
somebody takes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MOST_KEPT = 200  # a caller that never takes them loses the oldest
_LONGEST = 100  # characters of a header that cannot be read
_WORDS = frozenset(
    {"api", "v1", "auth", "me", "account", "accounts", "call", "record", "recording"}
    | {"recordings", "conference", "member", "cdr"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deprecation:
    """`path` without ids. The instants are RFC 3339, or the header's text where that is no date;
    None where it was not sent.
    """

    method: str
    path: str
    deprecated_at: str | None
    sunset_at: str | None


_kept: deque[Deprecation] = deque(maxlen=_MOST_KEPT)


def note(method: str, path: str, header: Callable[[str], str | None]) -> None:
    """Keep what an answer says. `header`: gives a header by its name in lower case."""
    deprecation, sunset = header("deprecation"), header("sunset")
    if deprecation or sunset:
        said = Deprecation(
            method=method,
            path=shape(path),
            deprecated_at=_instant(deprecation),
            sunset_at=_instant(sunset),
        )
        if said not in _kept:
            _kept.append(said)


def taken() -> list[Deprecation]:
    """All that is kept; it is kept no longer."""
    found = []
    while _kept:
        found.append(_kept.popleft())
    return found


def shape(path: str) -> str:
    """The path with `{id}` in place of every step that is no word of the API, without the query."""
    steps = path.partition("?")[0].split("/")
    return "/".join(step if not step or step.lower() in _WORDS else "{id}" for step in steps)


def _instant(text: str | None) -> str | None:
    """A date of RFC 9745 (`@` and seconds) or of HTTP, as RFC 3339."""
    if text is None:
        return None
    text = text.strip()
    try:
        if text.startswith("@"):
            at = datetime.fromtimestamp(int(text[1:]), UTC)
        else:
            at = parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return "".join(c for c in text[:_LONGEST] if c.isprintable())
    return at.isoformat().replace("+00:00", "Z")
