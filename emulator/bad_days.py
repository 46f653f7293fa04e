"""The provider's bad days (faults that can be switched on), with their parameters and defaults.

Each can be limited (`LIMITS`): to a number of times, to a probability, to one call, recording,
account, route or event, or to a list of them. A limit on a fact that the moment does not have (say,
`event` for a REST request) keeps the bad day away.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

FACTS = ("account", "call_uuid", "recording_id", "event", "route")
LIMITS = ("times", "probability", *FACTS)


@dataclass(frozen=True, slots=True)
class BadDay:
    """What the bad day does, and its parameters with their defaults. A default of None means that
    the parameter is required.
    """

    says: str
    params: dict[str, Any] = field(default_factory=dict)


BAD_DAYS = {
    # The life of a recording
    "early-404": BadDay(
        "list, get and media do not know a recording for `seconds` after its end", {"seconds": 1}
    ),
    "slow-finalise": BadDay(
        "the file is ready, and its callback sent, `seconds` after the end", {"seconds": 1}
    ),
    # Callbacks
    "lost-callbacks": BadDay("callbacks are not sent"),
    "doubled-callbacks": BadDay("callbacks are sent `copies` times", {"copies": 2}),
    "late-callbacks": BadDay("callbacks are sent `seconds` late", {"seconds": 1}),
    "shuffled-callbacks": BadDay(
        "callbacks are held back and go out in random order within `seconds`", {"seconds": 1}
    ),
    "unsigned-callbacks": BadDay("callbacks carry no signature"),
    "forged-callbacks": BadDay("callbacks are signed with a token that is not the account's"),
    "leaked-tokens": BadDay(
        "callbacks carry the account's tokens in `auth-token` and `parent-auth-token`"
    ),
    "marked-callbacks": BadDay("a byte order mark stands before the body of callbacks"),
    # Stops
    "deaf-stop": BadDay("a stop answers 204 and stops nothing"),
    "stop-fails-first": BadDay(
        "a stop answers `status` and stops nothing; limit it with `times`", {"status": 503}
    ),
    "stop-429": BadDay("a stop answers 429 with Retry-After `retry_after`", {"retry_after": 1}),
    "stop-timeout": BadDay(
        "a stop is held for `seconds`, then the connection is dropped", {"seconds": 5}
    ),
    "gateway-404": BadDay("a stop answers the gateway's 404"),
    "stop-404": BadDay("a stop answers that the call is not found, and stops nothing"),
    "stop-unknown-url": BadDay(
        "a stop that names a recording answers that it is not found, and stops nothing"
    ),
    "stop-loses-body": BadDay(
        "the body of a stop is lost on its way, so it stops all recordings of the call"
    ),
    "refuse-auth": BadDay(
        "a stop answers `status`; `me` says whether the probe `auth/me` fails too",
        {"status": 401, "me": False},
    ),
    # Starts and transfers, which a client must not repeat blindly
    "start-fails": BadDay("a start answers `status` and starts nothing", {"status": 503}),
    "start-timeout": BadDay(
        "a start is held for `seconds`, then the connection is dropped; nothing starts",
        {"seconds": 5},
    ),
    "start-lost-answer": BadDay(
        "a start starts a recording, and the connection is dropped instead of an answer"
    ),
    "start-nameless": BadDay("a start starts a recording and does not name it"),
    "transfer-fails": BadDay("a transfer answers `status` and transfers nothing", {"status": 503}),
    "transfer-timeout": BadDay(
        "a transfer is held for `seconds`, then the connection is dropped; nothing is transferred",
        {"seconds": 5},
    ),
    "transfer-lost-answer": BadDay(
        "a transfer takes place, and the connection is dropped instead of an answer"
    ),
    # The rest of the REST API: every route but the stop
    "api-5xx": BadDay("REST answers `status`", {"status": 503}),
    "api-429": BadDay("REST answers 429 with Retry-After `retry_after`", {"retry_after": 1}),
    "deprecated": BadDay(
        "REST and media answers carry Deprecation (RFC 9745) and Sunset (RFC 8594): `since` and "
        "`sunset` in seconds since 1970, 0 leaves the header out",
        {"since": 1767225600, "sunset": 1798761600},
    ),
    "api-timeout": BadDay(
        "a REST request is held for `seconds`, then the connection is dropped", {"seconds": 5}
    ),
    # The list of recordings
    "list-lag": BadDay(
        "the list, but not get or media, lacks a recording for `seconds` after its end",
        {"seconds": 60},
    ),
    "list-rows-move": BadDay(
        "`rows` new recordings appear after each page that has a next one", {"rows": 1}
    ),
    "list-running": BadDay(
        "the list shows running recordings, without an end; `so_far` gives them a duration",
        {"so_far": False},
    ),
    "wrong-duration": BadDay(
        "list and get report a duration that is `seconds` off", {"seconds": 5}
    ),
    # Media
    "media-5xx": BadDay("media answer `status`", {"status": 503}),
    "media-timeout": BadDay(
        "media are held for `seconds`, then the connection is dropped", {"seconds": 5}
    ),
    "redirect-media": BadDay(
        "media answer `status` to `location`", {"location": None, "status": 302}
    ),
    "empty-media": BadDay("media answer 200 and nothing"),
    "html-media": BadDay("media answer an HTML page as audio"),
    "json-media": BadDay("media answer a JSON error as audio"),
    "lying-container": BadDay("the other container's bytes under the name"),
    "short-media": BadDay(
        "a whole file, but only `fraction` as long as the recording", {"fraction": 0.5}
    ),
    "truncated-media": BadDay(
        "the announced length is right, the connection ends after `fraction` of it",
        {"fraction": 0.5},
    ),
    "padded-media": BadDay("the file stands behind `bytes` zeros", {"bytes": 1024}),
    "trickled-media": BadDay(
        "media arrive `bytes` at a time, with `pause_s` between", {"bytes": 512, "pause_s": 0.2}
    ),
    "ranged-media": BadDay(
        "media carry `etag`, or the Last-Modified `modified`, and answer Range with If-Range by "
        "206; `changing`: each answer has another ETag; `blind`: If-Range is not looked at; "
        "`ignored`: Range neither; `shifted`: the range begins so many bytes too late",
        {
            "etag": '"v1"',
            "modified": "",
            "changing": False,
            "blind": False,
            "ignored": False,
            "shifted": 0,
        },
    ),
    "no-length-media": BadDay("media are sent in chunks, without a Content-Length"),
    "gzip-media": BadDay("media are sent with Content-Encoding gzip, asked for or not"),
    "huge-media": BadDay("media of `bytes` are announced and sent", {"bytes": 5 * 1024**3}),
}


class BadDays:
    """Which bad days are on. Threads may share one."""

    def __init__(self, seed: int = 0) -> None:
        self._on: dict[str, dict[str, Any]] = {}
        self._left: dict[str, int] = {}
        self.chance = random.Random(seed)
        self._lock = threading.Lock()

    def switch_on(self, name: str, **params: Any) -> None:
        """Switches a bad day on; it replaces an earlier setting of the same name. Raises KeyError
        for an unknown name, ValueError for a wrong parameter.
        """
        check(name, params)
        with self._lock:
            # The name is a value too, so that the dict that `hit` returns is never empty and false.
            self._on[name] = {"name": name, **BAD_DAYS[name].params, **params}
            self._left.pop(name, None)
            if "times" in params:
                self._left[name] = int(params["times"])

    def switch_off(self, name: str) -> None:
        """Does nothing when it is not on."""
        with self._lock:
            self._on.pop(name, None)

    def clear(self) -> None:
        with self._lock:
            self._on.clear()

    def listing(self) -> dict[str, Any]:
        with self._lock:
            on = {
                name: {**params, **({"left": self._left[name]} if name in self._left else {})}
                for name, params in self._on.items()
            }
        return {
            "known": {name: fault.says for name, fault in BAD_DAYS.items()},
            "parameters": {name: fault.params for name, fault in BAD_DAYS.items()},
            "limits": LIMITS,
            "on": on,
        }

    def hit(self, name: str, **facts: Any) -> dict[str, Any] | None:
        """The parameters of the bad day, all of them present, when it strikes now; else None. A
        strike uses up one of its `times`.
        """
        # No lock while it is off: each stop of a burst checks seven bad days.
        if name not in self._on:
            return None
        with self._lock:
            params = self._on.get(name)
            if params is None or not all(
                _meant(params[fact], facts.get(fact)) for fact in FACTS if fact in params
            ):
                return None
            if self.chance.random() >= params.get("probability", 1):
                return None
            if name in self._left:
                if self._left[name] <= 0:
                    return None
                self._left[name] -= 1
            return params


def deprecation(params: dict[str, Any] | None) -> dict[str, str]:
    """The headers of the bad day `deprecated` with these parameters; none without."""
    given = params or {"since": 0, "sunset": 0}
    said = {"Deprecation": f"@{given['since']:.0f}"} if given["since"] else {}
    return said | ({"Sunset": formatdate(given["sunset"], usegmt=True)} if given["sunset"] else {})


def check(name: str, params: dict[str, Any]) -> None:
    """Raises KeyError for an unknown name, ValueError for a parameter that is unknown, missing or
    of the wrong type.
    """
    fault = BAD_DAYS[name]
    if unknown := params.keys() - fault.params.keys() - set(LIMITS):
        raise ValueError(
            f"{name} has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join([*fault.params, *LIMITS])}"
        )
    if (
        missing := {param for param, default in fault.params.items() if default is None}
        - params.keys()
    ):
        raise ValueError(f"{name} needs {', '.join(sorted(missing))}")
    for param, default in {**fault.params, "times": 1, "probability": 1}.items():
        wanted = (int, float) if isinstance(default, int | float) else str
        if param in params and not isinstance(params[param], wanted):
            raise ValueError(f"{name}: {param} cannot be {params[param]!r}")


def _meant(limit: Any, fact: Any) -> bool:
    return fact in limit if isinstance(limit, list | tuple) else bool(fact == limit)
