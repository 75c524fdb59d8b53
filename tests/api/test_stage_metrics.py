from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from sources_home import ACTOR

from api.stage_metrics import stage_figures
from monitor.embedding.stage_times import Stage, observe
from monitor.sources.catalogue import apply_source
from monitor.sources.progress import RoadOutcome, Step, take_hold
from monitor.sources.settings import FolderSource
from registry.clock import ReplayClock
from registry.database import Database

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def registry_of(database: Database) -> CollectorRegistry:
    class Figures(Collector):
        def collect(self):  # type: ignore[no-untyped-def]
            with database.reading() as session:
                yield from stage_figures(session, NOON)

    registry = CollectorRegistry()
    registry.register(Figures())
    return registry


def test_what_a_worker_measured_is_served_as_a_histogram(database: Database) -> None:
    with database.transaction() as session:
        observe(session, Stage.EMBED, "chest", [0.02, 0.2, 2.0, 200.0])
    figures = registry_of(database)

    def below(bound: str) -> float | None:
        labels = {"monitor": "chest", "le": bound}
        return figures.get_sample_value("driftward_embed_seconds_bucket", labels)

    assert [below(bound) for bound in ("0.01", "0.025", "1.0", "30.0", "+Inf")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    for name, value in (("count", 4), ("sum", 202.22)):
        sample = f"driftward_embed_seconds_{name}"
        assert figures.get_sample_value(sample, {"monitor": "chest"}) == value


def test_what_a_source_took_is_counted_with_what_it_brought(
    database: Database, tmp_path: Path
) -> None:
    source = FolderSource(
        name="ward", kind="folder", path=tmp_path, site="north", afterwards="keep"
    )
    with database.transaction() as session:
        apply_source(session, source, actor=ACTOR, at=NOON)
        observe(session, Stage.STORE, "a source of before", [1.0])
    hold = take_hold(database, ReplayClock(NOON), "ward")
    assert hold is not None
    figures = registry_of(database)
    labels = {"source": "ward", "kind": "folder"}
    hold.took(0.5)
    hold.took(0.25)
    hold.keep(Step(counts={RoadOutcome.ADDED: 2}))
    hold.keep(Step(counts={RoadOutcome.KNOWN: 1}))
    assert figures.get_sample_value("driftward_source_store_seconds_count", labels) == 2
    assert figures.get_sample_value("driftward_source_store_seconds_sum", labels) == 0.75
    (family,) = [
        one for one in figures.collect() if one.name == "driftward_source_store_seconds"
    ]
    assert {sample.labels["source"] for sample in family.samples} == {"ward"}
