"""What can be measured: the catalogue, and the two ways to take it: kept for Prometheus, or not at all.

Business code never asks whether metrics are on: it holds a ``Metrics``, and ``Silent`` is one. The names stand in the
catalogue alone; ``docs/operators.md`` explains each, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import Action, State

PREFIX = "challenger_"
#: Seconds, from one block to a day: what slack and latencies are sorted into.
_SECONDS = (1.0, 6.0, 12.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0)
#: Seconds, from a toy model to a large one.
_REPLAYS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """``kind``: counter, gauge or histogram; ``labels`` are given with each value; a counter's name ends in _total. Labels of
    ``born`` have their series from the start, at 0: one that appears with its first count shows no increase."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    born: tuple[tuple[str, ...], ...] = ()


SLACK_AT_FILING = Metric(
    "slack_at_filing_seconds",
    "histogram",
    "seconds to spare when a filing began",
    ("action",),
    _SECONDS,
    ((Action.CHALLENGE.value,), (Action.DEMAND.value,)),
)
LEAST_SLACK = Metric("slack_at_filing_min_seconds", "gauge", "least slack of any filing since the start")
PREDICTED_MISSES = Metric("predicted_misses", "gauge", "commitments whose predicted work no longer fits their window")
MISSED = Metric(
    "missed_total",
    "counter",
    "windows that closed over work in hand",
    ("state",),
    born=tuple(
        (state.value,) for state in (State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.UNAVAILABLE)
    ),
)
NEAREST_DEADLINE = Metric("nearest_deadline_seconds", "gauge", "seconds to the close of the most urgent window")
REPLAY_SECONDS = Metric("replay_seconds", "histogram", "duration of a replay", ("model", "backend"), _REPLAYS)
VERDICTS = Metric("verdicts_total", "counter", "verdicts of the first replay and the confirmation", ("kind", "stage"))
SHED = Metric("shed_total", "counter", "commitments shed since the backlog exceeded the slack")
READMITTED = Metric("readmitted_total", "counter", "shed commitments taken up again")
DISAGREEMENTS = Metric("disagreements_total", "counter", "accusations held since endpoints disagreed")
SELFTESTS = Metric(
    "selftests_total",
    "counter",
    "planted items of the self-test by what came of them",
    ("outcome",),
    born=(("caught",), ("missed",), ("undecided",), ("broken-off",)),
)
SELFTEST_SECONDS = Metric("selftest_seconds", "histogram", "from planting an item to its end", (), _REPLAYS)
HEAD_BLOCK = Metric("head_block", "gauge", "number of the newest block in the index")
HEAD_AGE = Metric("head_age_seconds", "gauge", "this machine's clock less the time of the endpoint's newest block")
ALERTS = Metric("alerts_total", "counter", "alerts raised", ("name", "severity"))
ALERTS_ACTIVE = Metric("alerts_active", "gauge", "alerts whose condition lasts", ("name",))
HOOK_FAILURES = Metric("alert_hook_failures_total", "counter", "alerts that a command, webhook or service did not take")
NOTIFICATIONS = Metric(
    "notifications_total", "counter", "messages handed to a service of [telemetry] notify", ("service", "outcome")
)

CATALOGUE: tuple[Metric, ...] = (
    SLACK_AT_FILING,
    LEAST_SLACK,
    PREDICTED_MISSES,
    MISSED,
    NEAREST_DEADLINE,
    REPLAY_SECONDS,
    VERDICTS,
    SHED,
    READMITTED,
    DISAGREEMENTS,
    SELFTESTS,
    SELFTEST_SECONDS,
    HEAD_BLOCK,
    HEAD_AGE,
    ALERTS,
    ALERTS_ACTIVE,
    HOOK_FAILURES,
    NOTIFICATIONS,
)


class Metrics(Protocol):
    """Cheap, synchronous, never raises for a metric of the catalogue with its labels."""

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Adds to a counter."""
        ...

    def set(self, metric: Metric, value: float | None, **labels: str) -> None:
        """Sets a gauge; None: there is nothing to tell, as before the first value."""
        ...

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Sorts a value into a histogram."""
        ...


class Silent:
    """The twin that keeps nothing."""

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        pass

    def set(self, metric: Metric, value: float | None, **labels: str) -> None:
        pass

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        pass


class Prometheus:
    """The twin that keeps all, in a registry of its own: two watchers in one process share nothing."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self._makers: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._made: dict[str, Any] = {}
        for metric in CATALOGUE:
            if metric.kind != "gauge":  # which would stand at 0 before anything is known
                self._one(metric)
            for labels in metric.born:
                self._one(metric, dict(zip(metric.labels, labels, strict=True)))

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        self._one(metric, labels).inc(amount)

    def set(self, metric: Metric, value: float | None, **labels: str) -> None:
        if value is not None:
            self._one(metric, labels).set(value)
        elif labels and metric.name in self._made:
            self._made[metric.name].remove_by_labels(labels)
        elif made := self._made.pop(metric.name, None):
            self.registry.unregister(made)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        self._one(metric, labels).observe(value)

    def page(self) -> bytes:
        """Everything, in the text format that Prometheus scrapes."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def value(self, metric: Metric, suffix: str = "", **labels: str) -> float | None:
        """One sample as it stands; ``suffix`` of a histogram: ``_count``, ``_sum``. None when it was never taken."""
        return self.registry.get_sample_value(PREFIX + metric.name + suffix, labels)

    def _one(self, metric: Metric, labels: dict[str, str] | None = None) -> Any:
        made = self._made.get(metric.name)
        if made is None:
            more = {"buckets": metric.buckets} if metric.buckets else {}
            make = self._makers[metric.kind]
            made = make(PREFIX + metric.name, metric.help, metric.labels, registry=self.registry, **more)
            self._made[metric.name] = made
        return made.labels(**labels) if labels else made
