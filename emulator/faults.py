"""Bad days of the provider, by name. Each can be limited to a call, a number of times or a probability."""

from __future__ import annotations

import random
import threading
from typing import Any

FAULTS = {
    "early-404": "recordings and media answer 404 for `seconds` after the end",
    "slow-finalise": "the file is ready, and its callback sent, `seconds` after the end",
    "lost-callbacks": "callbacks are not sent; `event` picks one kind",
    "doubled-callbacks": "callbacks are sent twice",
    "late-callbacks": "callbacks are sent `seconds` late; `event` picks one kind",
    "deaf-stop": "a stop answers 204 and stops nothing",
    "stop-fails-first": "a stop answers `status` (503) before it obeys; limit with `times`",
    "stop-429": "a stop answers 429 with Retry-After `retry_after`",
    "stop-timeout": "a stop is held for `seconds`, then the connection is dropped",
    "gateway-404": "stops answer the gateway's 404",
    "refuse-auth": "stops answer `status` (401); `me` says whether the probe does too",
    "api-5xx": "lists and live calls answer 503",
    "media-5xx": "media answer 503",
    "truncated-media": "the announced length is kept, the connection ends after `fraction`",
    "empty-media": "media answer 200 and nothing",
    "html-media": "media answer an HTML page as audio",
    "lying-container": "the other container's bytes under the name",
    "redirect-media": "media answer 302 to `location`",
    "unsigned-callbacks": "callbacks carry no signature",
    "forged-callbacks": "callbacks carry a wrong signature",
}


class Faults:
    """Which bad days are on. `hit` asks, and uses up one of its `times`."""

    def __init__(self, seed: int = 0) -> None:
        self._on: dict[str, dict[str, Any]] = {}
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def switch_on(self, name: str, **params: Any) -> None:
        """Raises KeyError for a name that is not documented."""
        _ = FAULTS[name]
        with self._lock:
            self._on[name] = params

    def switch_off(self, name: str) -> None:
        with self._lock:
            self._on.pop(name, None)

    def listing(self) -> dict[str, Any]:
        return {"known": FAULTS, "on": dict(self._on)}

    def hit(self, name: str, **facts: Any) -> dict[str, Any] | None:
        """The parameters of a bad day that strikes now, else None. It is limited to the facts that it names."""
        with self._lock:
            params = self._on.get(name)
            if params is None or any(k in params and params[k] != v for k, v in facts.items()):
                return None
            if self._chance.random() >= params.get("probability", 1):
                return None
            if "times" in params:
                if params["times"] <= 0:
                    return None
                params["times"] -= 1
            return params
