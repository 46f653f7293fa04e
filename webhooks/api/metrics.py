"""`/metrics` for Prometheus, from the counters that all processes keep in Redis."""

from __future__ import annotations

from collections.abc import Iterator

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


class _Ledger(Collector):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def collect(self) -> Iterator[Metric]:
        counters = self.ledger.counters()
        for name, label in _LABELS.items():
            family = CounterMetricFamily(
                f"endtape_{name}",
                f"{name.removesuffix('_total').capitalize()} by {label}.",
                labels=[label],
            )
            for key, value in sorted(counters.items()):
                if key.startswith(f"{name}|"):
                    family.add_metric([key.partition("|")[2]], value)
            yield family
        buckets = sorted(
            (float(k.partition("|")[2]), v)
            for k, v in counters.items()
            if k.startswith("lateness_bucket|")
        )
        lateness = HistogramMetricFamily(
            "endtape_stop_lateness_seconds", "Stop request minus the instant it was due."
        )
        total = counters.get("lateness_count", 0)
        lateness.add_metric(
            [],
            [*((f"{top:g}", count) for top, count in buckets), ("+Inf", total)],
            counters.get("lateness_sum", 0),
        )
        yield lateness
        yield GaugeMetricFamily(
            "endtape_unfinished",
            "Obligations that keep being begun and never finished.",
            value=len(self.ledger.unfinished()),
        )
        yield GaugeMetricFamily(
            "endtape_obligations", "Obligations in the ledger.", value=self.ledger.outstanding()
        )


def render(ledger: Ledger) -> bytes:
    """The exposition text. Raises LedgerUnavailable."""
    registry = CollectorRegistry()
    registry.register(_Ledger(ledger))
    return generate_latest(registry)
