"""`/metrics` for Prometheus.

What was counted comes from Redis, where all processes of all machines count together; what is now
is read at each scrape. Labels are bounded: an account is one, a call or recording never. Who shows
no key gets all accounts together, as the account `all`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker import tally
from worker.calls.completeness import GAPS
from worker.calls.events import Fault
from worker.calls.obligations import Duty
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES
from worker.ledger.presence import ROLES, SEEN_WITHIN

_ACCOUNT, _ALL = "account", "all"
_YES_OR_NO = {"endtape_account_halted"}
_PARTS = ("archive", "fallback", "spool", "catalog", "provider")
# Each counter's labels, and what it counts.
_COUNTERS: dict[str, tuple[Sequence[str], str]] = {
    "alerts_total": (["alert"], "Alerts, as docs/operations.md explains them."),
    "events_total": (["event"], "Events that were recorded."),
    "refused_total": (["reason"], "Callbacks and requests that were refused."),
    "healed_total": (["kind"], "What surveys of the provider's lists put right."),
    "abandoned_total": (["fault"], "Recordings that were given up for now, by whose fault."),
    "archived_total": (["account"], "Recordings that came home."),
    "archived_bytes_total": (["account"], "Bytes of audio that came home."),
    "handoffs_total": (["verdict", "proof"], "Answers to hand-offs."),
    "provider_requests_total": (["request", "status"], "Answers of the provider, or none."),
    "rate_limit_waits_total": (["bucket"], "Requests that our rate limit put off."),
    "rate_limit_wait_seconds_total": (["bucket"], "For how long the first of each was put off."),
    "notifications_total": (["type"], "Notifications that were taken."),
    "notifications_failed_total": (["type"], "Tries of notifications that were not taken."),
    "ledger_gaps_total": (["account", "figure"], "What closed days leave unexplained."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Durations:
    """A histogram of seconds. `label`: None where it has none."""

    name: str
    meaning: str
    label: str | None = None


# By the name of their counters. Of the first, each bound counts all that is below it.
_CUMULATED = {
    "lateness": _Durations(
        name="stop_lateness_seconds", meaning="Stop request minus the instant it was due."
    ),
    "confirmation": _Durations(
        name="stop_confirmation_seconds",
        meaning="Proof of the end minus the instant the stop was due.",
    ),
    "tail": _Durations(
        name="stop_tail_seconds",
        meaning="Provider's end of the recording minus the instant the stop was due.",
    ),
    "home": _Durations(
        name="home_seconds", meaning="From the end of a recording to its place in the archive."
    ),
}
_IN_SLOTS = {
    "provider_request_seconds": _Durations(
        name="provider_request_seconds",
        meaning="From a request to the provider's answer; of media to its last byte.",
        label="request",
    ),
    "handoff_seconds": _Durations(
        name="handoff_seconds", meaning="How long an application waited for its verdict."
    ),
}


class _Ledger(Collector):
    """The metrics of one ledger, read anew for each scrape."""

    def __init__(self, ledger: Ledger, accounts: Collection[str], *, named: bool) -> None:
        self.ledger, self.accounts, self.named = ledger, accounts, named

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            yield family if self.named else _together(family)

    def _families(self) -> Iterator[Metric]:
        counters = self.ledger.counters()
        counters = {**self._zeros(), **counters}
        for name in _COUNTERS:
            yield _counter(counters, name)
        for name in _CUMULATED:
            yield _cumulated(counters, name)
        for name in _IN_SLOTS:
            yield _in_slots(counters, name)
        yield from self._now()
        yield from self._census()
        yield from self._health()

    def _zeros(self) -> dict[str, float]:
        """What nothing was counted for yet, where that is known: `increase` of Prometheus does not
        see a series that begins at 1.
        """
        names = [
            *(f"refused_total|{reason}" for reason in REMEDIES),
            *(f"abandoned_total|{fault.value}" for fault in Fault),
            *(f"handoffs_total|{v}|{p}" for v in ("go", "hold") for p in ("proven", "unproven")),
        ]
        for account in self.accounts:
            names += [f"archived_total|{account}", f"archived_bytes_total|{account}"]
            names += [f"ledger_gaps_total|{account}|{figure}" for figure in GAPS]
        return dict.fromkeys(names, 0)

    def _now(self) -> Iterator[Metric]:
        """What is owed."""
        nothing = {duty: (0, timedelta(0)) for duty in Duty}
        overdue = {**nothing, **self.ledger.overdue()}
        yield _gauge(
            "duty_overdue",
            "Obligations that are due and that no worker has taken.",
            ["duty"],
            {(duty.value,): count for duty, (count, _) in overdue.items()},
        )
        yield _gauge(
            "duty_oldest_seconds",
            "For how long the oldest of them has been due.",
            ["duty"],
            {(duty.value,): age.total_seconds() for duty, (_, age) in overdue.items()},
        )
        yield GaugeMetricFamily(
            "endtape_unfinished",
            "Obligations that keep being begun and never finished.",
            value=len(self.ledger.unfinished()),
        )
        yield GaugeMetricFamily(
            "endtape_obligations", "Obligations in the ledger.", value=self.ledger.outstanding()
        )

    def _census(self) -> Iterator[Metric]:
        """What `keep` counted last."""
        gauges, age_s = self.ledger.gauges()
        for name, labels, meaning in (
            ("recordings", ["account", "phase"], "Recordings that are not home, by phase."),
            ("stops_unproven", ["account"], "Stops whose end nothing proves after all tries."),
        ):
            values = {
                tuple(key.split("|")[1:]): value
                for key, value in gauges.items()
                if key.startswith(f"{name}|")
            }
            yield _gauge(name, meaning, labels, values)
        if age_s is not None:
            yield GaugeMetricFamily(
                "endtape_census_age_seconds", "How old these two are.", value=age_s
            )

    def _health(self) -> Iterator[Metric]:
        alive = self.ledger.alive(SEEN_WITHIN)
        yield _gauge(
            "processes",
            "Processes that were seen in the last 15 s.",
            ["role"],
            {(role,): len(alive.get(role, [])) for role in ROLES},
        )
        broken = {what.partition("@")[0] for what in self.ledger.degraded()}
        yield _gauge(
            "degraded",
            "1 where it does not work: archive, fallback, spool, catalog and others.",
            ["what"],
            {(what,): int(what in broken) for what in sorted({*_PARTS, *broken})},
        )
        halted = self.ledger.halted(self.accounts)
        yield _gauge(
            "account_halted",
            "1 where the provider refuses the account's credentials.",
            ["account"],
            {(account,): int(account in halted) for account in self.accounts},
        )
        yield GaugeMetricFamily(
            "endtape_notifications_failing",
            "Notifications that do not arrive.",
            value=len(self.ledger.failing()),
        )
        yield _gauge("build_info", "1, with the version.", ["version"], {(version("endtape"),): 1})


def _together(family: Metric) -> Metric:
    """The family with all its accounts as one. Of yes or no it is yes where any is."""
    if not any(_ACCOUNT in sample.labels for sample in family.samples):
        return family
    join = max if family.name in _YES_OR_NO else sum
    values: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for sample in family.samples:
        labels = tuple((sample.labels | {_ACCOUNT: _ALL}).items())
        values.setdefault(labels, []).append(sample.value)
    name = family.samples[0].name
    joined = Metric(family.name, family.documentation, family.type)
    for labels, those in values.items():
        joined.add_sample(name, dict(labels), join(those))
    return joined


def _gauge(
    name: str, meaning: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"endtape_{name}", meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(counters: Mapping[str, float], name: str) -> CounterMetricFamily:
    labels, meaning = _COUNTERS[name]
    family = CounterMetricFamily(f"endtape_{name}", meaning, labels=labels)
    for key, value in sorted(counters.items()):
        if key.startswith(f"{name}|"):
            family.add_metric(key.split("|", len(labels))[1:], value)
    return family


def _cumulated(counters: Mapping[str, float], name: str) -> HistogramMetricFamily:
    """A histogram from its counters: `NAME_bucket|TOP`, `NAME_count` and `NAME_sum`."""
    shown = _CUMULATED[name]
    buckets = sorted(
        (float(key.partition("|")[2]), count)
        for key, count in counters.items()
        if key.startswith(f"{name}_bucket|")
    )
    total = counters.get(f"{name}_count", 0)
    family = HistogramMetricFamily(f"endtape_{shown.name}", shown.meaning)
    family.add_metric(
        [],
        [*((f"{top:g}", count) for top, count in buckets), ("+Inf", total)],
        counters.get(f"{name}_sum", 0),
    )
    return family


def _in_slots(counters: Mapping[str, float], name: str) -> HistogramMetricFamily:
    """A histogram from counters of the tally: `NAME[|LABEL]|TOP` and `NAME[|LABEL]|sum`."""
    shown = _IN_SLOTS[name]
    of_label: dict[str, dict[str, float]] = {} if shown.label else {"": {}}
    for key, count in counters.items():
        if key.startswith(f"{name}|"):
            label, _, slot = key.removeprefix(f"{name}|").rpartition("|")
            of_label.setdefault(label, {})[slot] = count
    family = HistogramMetricFamily(
        f"endtape_{shown.name}", shown.meaning, labels=[shown.label] if shown.label else []
    )
    for label, slots in sorted(of_label.items()):
        total, buckets = 0.0, list[tuple[str, float]]()
        for top in tally.SLOTS:
            total += slots.get(top, 0)
            buckets.append((top, total))
        family.add_metric([label] if shown.label else [], buckets, slots.get("sum", 0))
    return family


def render(ledger: Ledger, accounts: Collection[str], *, named: bool) -> bytes:
    """The exposition text. `named`: with each account by its name. Raises LedgerUnavailable."""
    registry = CollectorRegistry()
    registry.register(_Ledger(ledger, accounts, named=named))
    return generate_latest(registry)
