"""A worker that is stopped beyond its lease and continued: another finishes, it writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashed_embedding import home_with_a_monitor, write_files
from crashed_training import Ended, Homes, ended_as
from running_receiver import SITE
from sqlalchemy import func, select
from stopped_workers import StoppedWorker, everything

from api.assembly import Driftward
from api.settings import Settings
from monitor.tables import EmbeddingRow
from registry import ledger
from retrain.scheduling import tick

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]


@pytest.fixture
def stopped() -> Iterator[Callable[..., StoppedWorker]]:
    """Start workers that stop; whatever becomes of them, they end with the test."""
    started: list[StoppedWorker] = []

    def start(home: Path, **how: object) -> StoppedWorker:
        started.append(StoppedWorker(home, **how))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


def require_silent_end(worker: StoppedWorker) -> None:
    """Continue a worker whose job another has finished, and look what it does."""
    before = everything(worker.home)
    next_job_done_by = worker.go_on()
    assert everything(worker.home) == before
    assert "lease lost" in worker.log
    assert next_job_done_by is not None
    assert f":{worker.pid}:" in next_job_done_by


@pytest.mark.parametrize("point", ["train: in MLflow", "validate: gates evaluated"])
def test_a_run_whose_worker_was_stopped_has_one_candidate_and_is_judged_once(
    homes: Homes,
    undisturbed: Ended,
    tmp_path: Path,
    stopped: Callable[..., StoppedWorker],
    point: str,
) -> None:
    home = Path(shutil.copytree(homes.before(point), tmp_path / "home"))
    worker = stopped(home, at=point)
    worker.let_another_finish()
    assert ended_as(home) == undisturbed
    require_silent_end(worker)
    assert ended_as(home) == undisturbed


def test_a_training_that_was_stopped_between_its_steps_is_finished_by_another(
    homes: Homes, undisturbed: Ended, tmp_path: Path, stopped: Callable[..., StoppedWorker]
) -> None:
    home = Path(shutil.copytree(homes.queued, tmp_path / "home"))
    worker = stopped(home, when=lambda: any((home / "work").glob("run-*/progress.jsonl")))
    [folder] = (home / "work").glob("run-*")
    assert not (folder / "result.json").exists(), "the training was over before it stopped"
    worker.let_another_finish()
    assert ended_as(home) == undisturbed
    require_silent_end(worker)
    assert ended_as(home) == undisturbed


def test_scans_whose_worker_was_stopped_while_it_embedded_are_read_once(
    tmp_path: Path, stopped: Callable[..., StoppedWorker]
) -> None:
    home = home_with_a_monitor(tmp_path)
    driftward = Driftward.open(Settings(home=home))
    write_files(tmp_path / "sent", range(6))
    assert driftward.intake.add([tmp_path / "sent"], site=SITE).added == 6
    tick(driftward.database, driftward.clock)
    worker = stopped(home, at="embed: read")

    def embeddings() -> int:
        with driftward.database.reading() as session:
            return session.scalar(select(func.count()).select_from(EmbeddingRow)) or 0

    assert embeddings() == 0
    worker.let_another_finish()
    assert embeddings() == 2 * 6  # by the encoder and by the champion
    require_silent_end(worker)
    with driftward.database.reading() as session:
        assert ledger.verify(session).valid
    driftward.database.dispose()
