"""Figures of the sources: what came by each road, what waits there, and since when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from monitor.sources.catalogue import all_sources, standing_of
from monitor.sources.progress import RoadOutcome

_LABELS = ["source", "kind"]


def source_figures(session: Session, now: datetime) -> Iterator[Metric]:
    """Yield the figures of every source in force; a figure that is not known is left out."""
    instances = CounterMetricFamily(
        "driftward_source_instances",
        "Instances that a source brought, by what became of them.",
        labels=[*_LABELS, "outcome"],
    )
    gauges = {
        key: GaugeMetricFamily(f"driftward_source_{key}", documentation, labels=_LABELS)
        for key, documentation in (
            ("backlog", "What is there and not yet read: changes of a feed, or files."),
            ("oldest_unread_seconds", "Age of the oldest that is there and not yet read."),
            ("failing", "1 while the source cannot be read."),
            ("last_success_timestamp_seconds", "When the source was last read."),
        )
    }
    for source in all_sources(session):
        standing = standing_of(session, source.name)
        labels = [source.name, source.specification.kind]
        last = standing.last_success_at
        for outcome in RoadOutcome:
            instances.add_metric([*labels, outcome], standing.counts.get(outcome, 0))
        figures = {
            "backlog": standing.backlog,
            "oldest_unread_seconds": _age(standing.oldest_unread_at, standing.backlog, now),
            "failing": float(standing.failing_since is not None),
            "last_success_timestamp_seconds": None if last is None else last.timestamp(),
        }
        for key, figure in figures.items():
            if figure is not None:
                gauges[key].add_metric(labels, figure)
    yield instances
    yield from gauges.values()


def _age(oldest: datetime | None, backlog: int | None, now: datetime) -> float | None:
    if backlog == 0:
        return 0.0
    # The server's clock may be ahead of ours.
    return None if oldest is None else max(0.0, (now - oldest).total_seconds())
