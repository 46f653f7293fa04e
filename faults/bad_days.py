"""Every bad day of the emulator, each rare enough that all is well in the end. `refuse-auth` comes
by itself.
"""

from __future__ import annotations

from typing import Any

ALL: dict[str, dict[str, Any]] = {
    "early-404": {"probability": 0.1, "seconds": 1},
    "slow-finalise": {"probability": 0.1, "seconds": 2},
    "doubled-callbacks": {"probability": 0.1},
    "late-callbacks": {"probability": 0.1, "seconds": 0.5},
    "shuffled-callbacks": {"probability": 0.2, "seconds": 0.5},
    "unsigned-callbacks": {"probability": 0.05},  # refused, and sent again by the provider
    "forged-callbacks": {"probability": 0.05},
    "leaked-tokens": {"probability": 0.2},
    "marked-callbacks": {"probability": 0.2},
    "deaf-stop": {"probability": 0.05},
    "stop-fails-first": {"probability": 0.05},
    "stop-429": {"probability": 0.02, "retry_after": 1},
    "stop-timeout": {"probability": 0.02, "seconds": 2},
    "stop-unknown-url": {"probability": 0.05},
    "stop-loses-body": {"probability": 0.05},
    "gateway-404": {"probability": 0.02},
    "api-5xx": {"probability": 0.05},
    "api-429": {"probability": 0.02, "retry_after": 1},
    "api-timeout": {"probability": 0.02, "seconds": 2},
    "list-lag": {"probability": 0.1, "seconds": 2},
    # Without `so_far`: we take a row with a duration above 0 for an ended recording, as promised.
    "list-running": {"probability": 0.1},
    "list-rows-move": {"probability": 0.1},
    "wrong-duration": {"probability": 0.05, "seconds": 5},
    "media-5xx": {"probability": 0.05},
    "media-timeout": {"probability": 0.02, "seconds": 2},
    "redirect-media": {"probability": 0.05, "location": "http://127.0.0.1:9/elsewhere.mp3"},
    "empty-media": {"probability": 0.03},
    "html-media": {"probability": 0.03},
    "json-media": {"probability": 0.03},
    "lying-container": {"probability": 0.03},
    "short-media": {"probability": 0.03, "fraction": 0.1},
    "truncated-media": {"probability": 0.05},
    "ranged-media": {"probability": 0.5},
    "trickled-media": {"probability": 0.05, "bytes": 4000, "pause_s": 0.05},
    "no-length-media": {"probability": 0.05},
    "gzip-media": {"probability": 0.03},
    "huge-media": {"probability": 0.02, "bytes": 3_000_000},
    "lost-callbacks": {"probability": 0.03},
    "deprecated": {"probability": 0.02},
}
# By itself and for a moment: it affects the whole account, not single requests.
REFUSED: dict[str, Any] = {"me": True}
