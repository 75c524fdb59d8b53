"""The tick of a home whose monitored model reads series."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from series_home import ANCHOR, SeriesHome, ct_series
from series_reference import reference_row
from sqlalchemy import select
from tiny_bundles import finding, tiny_bundle

from monitor.assembling.assembler import ASSEMBLE
from monitor.evaluating import EVALUATE
from monitor.tables import EmbeddingRow
from registry.bundles.card import Tier
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading
from registry.database import Database
from registry.jobs import RETRY_AFTER, Job, JobQueue, JobState
from registry.worker import Worker
from retrain.scheduling import EMBED, tick


def waiting(home: SeriesHome) -> set[str]:
    with home.database.reading() as session:
        kinds = session.scalars(select(Job.kind).where(Job.state == "queued"))
        return set(kinds) & {ASSEMBLE, EMBED, EVALUATE}


@pytest.fixture
def home(database: Database, tmp_path: Path) -> SeriesHome:
    """A home whose monitored model reads series, with a reference of it."""
    home = SeriesHome(database=database, root=tmp_path)
    reading = Reading(at_most=2)
    encoder = tiny_bundle(tmp_path / "encoder", unit=Unit.SERIES, reading=reading)
    champion = tiny_bundle(
        tmp_path / "champion",
        tier=Tier.TASK,
        tasks=[finding()],
        seed=1,
        unit=Unit.SERIES,
        reading=reading,
    )
    version, _ = home.watch("nodules", encoder=encoder, champion=champion)
    with database.transaction() as session:
        reference_row(session, "nodules", version, accepted_at=ANCHOR)
    return home


def test_what_has_settled_is_assembled_before_its_window_is_judged(home: SeriesHome) -> None:
    worker = Worker(
        JobQueue(home.database), {ASSEMBLE: home.assembler.handle, EMBED: home.embedder.handle}
    )
    home.clock.at = ANCHOR + timedelta(hours=80)
    home.receive(ct_series(1, range(3)))
    tick(home.database, home.clock)
    assert waiting(home) == set()
    home.clock.at = ANCHOR + timedelta(hours=85)
    tick(home.database, home.clock)
    assert waiting(home) == {ASSEMBLE}
    worker.drain()
    tick(home.database, home.clock)
    assert waiting(home) == {EVALUATE, EMBED}
    worker.drain()
    assert home.count(EmbeddingRow) == 2
    assert home.ledger_is_valid()


def test_a_window_does_not_wait_for_what_has_not_settled(home: SeriesHome) -> None:
    home.clock.at = ANCHOR + timedelta(hours=84)
    home.receive(ct_series(1, range(3)))
    tick(home.database, home.clock)
    assert waiting(home) == {EVALUATE}


def test_a_window_whose_judgement_failed_is_asked_for_anew(home: SeriesHome) -> None:
    home.clock.at = ANCHOR + timedelta(hours=85)
    tick(home.database, home.clock)
    with home.database.transaction() as session:
        job = session.scalars(select(Job).where(Job.kind == EVALUATE)).one()
        job.state, job.finished_at = JobState.FAILED, datetime.now(UTC) - RETRY_AFTER
    tick(home.database, home.clock)
    assert waiting(home) == {EVALUATE}
