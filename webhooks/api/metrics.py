"""`/metrics` for Prometheus, from the counters that all processes keep in Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker.ledger.client import Ledger

_LABELS = {
    "alerts_total": "alert",
    "events_total": "event",
    "refused_total": "reason",
    "healed_total": "kind",
    "abandoned_total": "fault",
}


_HISTOGRAMS = {
    "lateness": (
        "endtape_stop_lateness_seconds",
        "Stop request minus the instant it was due.",
    ),
    "confirmation": (
        "endtape_stop_confirmation_seconds",
        "Proof of the end minus the instant the stop was due.",
    ),
    "tail": (
        "endtape_stop_tail_seconds",
        "Provider's end of the recording minus the instant the stop was due.",
    ),
}


class _Ledger(Collector):
    """The metrics of one ledger, read anew for each scrape."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def collect(self) -> Iterator[Metric]:
        counters = self.ledger.counters()
        for name, label in _LABELS.items():
            yield _counter(counters, name, label)
        for prefix in _HISTOGRAMS:
            yield _histogram(counters, prefix)
        yield GaugeMetricFamily(
            "endtape_unfinished",
            "Obligations that keep being begun and never finished.",
            value=len(self.ledger.unfinished()),
        )
        yield GaugeMetricFamily(
            "endtape_obligations", "Obligations in the ledger.", value=self.ledger.outstanding()
        )


def _counter(counters: Mapping[str, float], name: str, label: str) -> CounterMetricFamily:
    family = CounterMetricFamily(
        f"endtape_{name}",
        f"{name.removesuffix('_total').capitalize()} by {label}.",
        labels=[label],
    )
    for key, value in sorted(counters.items()):
        if key.startswith(f"{name}|"):
            family.add_metric([key.partition("|")[2]], value)
    return family


def _histogram(counters: Mapping[str, float], prefix: str) -> HistogramMetricFamily:
    """A histogram from its counters: `PREFIX_bucket|TOP`, `PREFIX_count` and `PREFIX_sum`."""
    name, meaning = _HISTOGRAMS[prefix]
    buckets = sorted(
        (float(key.partition("|")[2]), count)
        for key, count in counters.items()
        if key.startswith(f"{prefix}_bucket|")
    )
    total = counters.get(f"{prefix}_count", 0)
    family = HistogramMetricFamily(name, meaning)
    family.add_metric(
        [],
        [*((f"{top:g}", count) for top, count in buckets), ("+Inf", total)],
        counters.get(f"{prefix}_sum", 0),
    )
    return family


def render(ledger: Ledger) -> bytes:
    """The exposition text. Raises LedgerUnavailable."""
    registry = CollectorRegistry()
    registry.register(_Ledger(ledger))
    return generate_latest(registry)
