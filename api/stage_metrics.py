"""How long stages of a scan's way take, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from sqlalchemy.orm import Session

from monitor.embedding.stage_times import Stage, StageTimes, measured
from monitor.sources.catalogue import all_sources

_OF_MONITORS = {
    Stage.DECODE: ("decode", "Time from a scan's file to what an encoder reads."),
    Stage.EMBED: ("embed", "A scan's share of the forward passes that embedded it."),
    Stage.LAG: ("embed_lag", "Time from a scan's arrival to its embedding."),
}


def stage_figures(session: Session, _now: datetime) -> Iterator[Metric]:
    """Yield a histogram for each stage; of sources only those in force are named."""
    for stage, (name, documentation) in _OF_MONITORS.items():
        family = _family(name, documentation, ["monitor"])
        for one in measured(session, stage):
            _add(family, stage, one, [one.subject])
        yield family
    kinds = {source.name: source.specification.kind for source in all_sources(session)}
    family = _family(
        "source_store",
        "Time from an instance that was read whole from a source to its being durable.",
        ["source", "kind"],
    )
    for one in measured(session, Stage.STORE):
        if one.subject in kinds:
            _add(family, Stage.STORE, one, [one.subject, kinds[one.subject]])
    yield family


def _family(name: str, documentation: str, labels: list[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"driftward_{name}_seconds", documentation, labels=labels)


def _add(
    family: HistogramMetricFamily, stage: Stage, times: StageTimes, labels: list[str]
) -> None:
    family.add_metric(
        labels, buckets=buckets(stage.bounds, times.counts), sum_value=times.seconds
    )


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return what Prometheus takes for counts by interval: how many lie below each bound."""
    names = [*(str(bound) for bound in bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))
