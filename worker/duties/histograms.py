"""Histograms of `/metrics`, kept as counters in the ledger: `NAME_sum`, `NAME_count` and one
`NAME_bucket|TOP` for each upper bound in seconds.
"""

from __future__ import annotations

from datetime import timedelta

CONFIRMATION = "confirmation"  # from the instant a stop was due to its proof
HOME = "home"  # from the end of a recording to its place in the archive
TAIL = "tail"  # what was recorded after the instant a stop was due
_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


def observe(counts: dict[str, float], name: str, length: timedelta) -> None:
    """Add one observation to `counts`. A negative length counts as 0."""
    seconds = max(0.0, length.total_seconds())
    counts[f"{name}_sum"] = counts.get(f"{name}_sum", 0) + seconds
    reached = [f"{name}_bucket|{top:g}" for top in _BUCKETS if seconds <= top]
    for field in (f"{name}_count", *reached):
        counts[field] = counts.get(field, 0) + 1
