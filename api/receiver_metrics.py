"""The receiver's figures for Prometheus, read from the memory that its processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from api.stage_metrics import buckets
from monitor.receiving.counters import LATENCY_BOUNDS, Counted, Counters, Totals

_INSTANCES = {
    "added": Counted.ADDED,
    "known": Counted.KNOWN,
    "quarantined": Counted.QUARANTINED,
    "followed": Counted.FOLLOWED,
    "out_of_resources": Counted.OUT_OF_RESOURCES,
    "too_large": Counted.TOO_LARGE,
}
_ASSOCIATIONS = {
    "granted": Counted.ASSOCIATIONS,
    "rejected": Counted.REJECTED_ASSOCIATIONS,
    "aborted": Counted.ABORTED_ASSOCIATIONS,
}


class ReceiverCollector(Collector):
    """Says what the receiver of this machine counts, or that there is none."""

    def __init__(self, running: Callable[[], Counters | None]) -> None:
        self._running = running

    def describe(self) -> Iterable[Metric]:
        """Return nothing: there may be no receiver yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        counters = self._running()
        yield GaugeMetricFamily(
            "driftward_receiver_up",
            "1 while a DICOM receiver runs on this machine.",
            value=float(counters is not None),
        )
        if counters is not None:
            yield from _figures(counters.totals())


def _figures(totals: Totals) -> Iterator[Metric]:
    counts = totals.counts
    instances = CounterMetricFamily(
        "driftward_receiver_instances",
        "Instances that came whole over the DICOM network, by what became of them.",
        labels=["outcome"],
    )
    for outcome, counted in _INSTANCES.items():
        instances.add_metric([outcome], counts[counted])
    yield instances
    associations = CounterMetricFamily(
        "driftward_receiver_associations",
        "Associations that were granted, rejected, or aborted by the receiver.",
        labels=["outcome"],
    )
    for outcome, counted in _ASSOCIATIONS.items():
        associations.add_metric([outcome], counts[counted])
    yield associations
    yield CounterMetricFamily(
        "driftward_receiver_bytes", "Bytes of instances that came.", value=counts[Counted.BYTES]
    )
    yield CounterMetricFamily(
        "driftward_receiver_connections",
        "Connections that were opened, genuine or not.",
        value=counts[Counted.CONNECTIONS],
    )
    for name, text, counted in (
        ("open_associations", "Associations that are open.", Counted.OPEN_ASSOCIATIONS),
        ("pending_bytes", "Bytes of instances on their way.", Counted.PENDING_BYTES),
        ("processes", "Processes that take connections.", Counted.LISTENING),
    ):
        yield GaugeMetricFamily(f"driftward_receiver_{name}", text, value=counts[counted])
    seconds = HistogramMetricFamily(
        "driftward_receiver_acknowledge_seconds",
        "Time from an instance's last byte to its acknowledgement.",
    )
    seconds.add_metric(
        [], buckets=buckets(LATENCY_BOUNDS, totals.latency), sum_value=totals.latency_seconds
    )
    yield seconds
