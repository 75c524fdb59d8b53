from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from sources_home import ACTOR

from api.source_metrics import source_figures
from monitor.sources.catalogue import apply_source
from monitor.sources.progress import RoadOutcome, Step, take_hold
from monitor.sources.settings import FolderSource
from registry.clock import ReplayClock
from registry.database import Database

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LABELS = {"source": "ward", "kind": "folder"}


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(NOON)


@pytest.fixture
def figures(database: Database, clock: ReplayClock, tmp_path: Path) -> CollectorRegistry:
    source = FolderSource(
        name="ward", kind="folder", path=tmp_path, site="north", afterwards="keep"
    )
    with database.transaction() as session:
        apply_source(session, source, actor=ACTOR, at=NOON)

    class Figures(Collector):
        def collect(self):  # type: ignore[no-untyped-def]
            with database.reading() as session:
                yield from source_figures(session, clock.now())

    registry = CollectorRegistry()
    registry.register(Figures())
    return registry


def of(figures: CollectorRegistry, name: str, **more: str) -> float | None:
    return figures.get_sample_value(f"driftward_source_{name}", {**LABELS, **more})


def test_what_is_not_known_yet_is_left_out(figures: CollectorRegistry) -> None:
    assert of(figures, "instances_total", outcome="added") == 0
    assert of(figures, "failing") == 0
    for name in ("backlog", "oldest_unread_seconds", "last_success_timestamp_seconds"):
        assert of(figures, name) is None


def test_what_came_and_what_waits_is_shown(
    figures: CollectorRegistry, database: Database, clock: ReplayClock
) -> None:
    hold = take_hold(database, clock, "ward")
    assert hold is not None
    hold.keep(
        Step(
            counts={RoadOutcome.ADDED: 5, RoadOutcome.GONE: 1},
            backlog=7,
            oldest_unread_at=NOON - timedelta(minutes=10),
        )
    )
    clock.at = NOON + timedelta(minutes=1)
    assert of(figures, "instances_total", outcome="added") == 5
    assert of(figures, "instances_total", outcome="gone") == 1
    assert of(figures, "backlog") == 7
    assert of(figures, "oldest_unread_seconds") == 11 * 60
    assert of(figures, "last_success_timestamp_seconds") == NOON.timestamp()
    hold.failed("source ward: there is no folder /srv/in")
    assert of(figures, "failing") == 1
    hold.keep(Step(backlog=0))
    assert of(figures, "failing") == 0
    assert of(figures, "oldest_unread_seconds") == 0
