"""Training and validation as a worker does them, on real scans and a tiny encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_installation import MODEL, SmallInstallation, plan_text, recipe
from sqlalchemy import select

from monitor import datasets
from monitor.datasets import Purpose
from monitor.tables import ScanRow
from registry import ledger
from registry.versions import VersionRow
from retrain.acquisition_changes import CHANGES, read_changed
from retrain.side_by_side import ROUNDS, timed_side_by_side
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, LockedSetUseRow, RunRow

QUICK = {"epochs": "1"}

# MLflow's own queries use a loader that SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> SmallInstallation:
    """A labelled history whose first version asks for nothing but that all be in order."""
    made = SmallInstallation(tmp_path_factory.mktemp("installation"), empty_mlflow=empty_mlflow)
    made.found(plan_text(first_version_auc="0.0", locked_set_uses="2"))
    made.receive(80)
    made.label(since=made.clock.at)
    return made


def first_run(made: SmallInstallation) -> int:
    return start_first_run(
        made.driftward.database,
        recipe(**QUICK, training_share="0.40", selection_share="0.20", locked_share="0.30"),
        since=None,
        until=None,
        seed=len(made.jobs.claims),
        by=made.operator,
        clock=made.clock,
    ).id


def change(made: SmallInstallation, number: int, **datasets: int) -> None:
    """Exchange datasets of a run, as a careless hand would."""
    with made.driftward.database.transaction() as session:
        run = session.get_one(RunRow, number)
        run.datasets = {**run.datasets, **datasets}
        ledger.append(
            session,
            at=made.clock.at,
            actor="test",
            kind="test",
            subject=f"run {number}",
            facts={},
            seals=[run],
        )


@pytest.mark.slow
def test_a_candidate_that_was_tuned_on_the_locked_patients_is_refused_by_that_gate(
    installation: SmallInstallation,
) -> None:
    number = first_run(installation)
    training = installation.run(number).datasets[Purpose.TRAINING.value]
    change(installation, number, **{Purpose.LOCKED_REFERENCE.value: training})
    installation.work()
    run = installation.run(number)
    assert run.state == RunState.REJECTED, installation.failed_jobs()
    assert run.note == "gates not passed: no_patient_on_both_sides"
    assert installation.gates(number)["no_patient_on_both_sides"] == "failed"


@pytest.mark.slow
def test_a_locked_set_judges_as_often_as_the_plan_allows_and_no_more(
    installation: SmallInstallation,
) -> None:
    numbers = [first_run(installation)]
    installation.work()
    locked = installation.run(numbers[0]).datasets[Purpose.LOCKED_REFERENCE.value]
    with installation.driftward.database.transaction() as session:
        # Another candidate was judged by it meanwhile.
        use = LockedSetUseRow(dataset=locked, run=1, used_at=installation.clock.at)
        session.add(use)
        session.flush()
        ledger.append(
            session,
            at=installation.clock.at,
            actor="test",
            kind="test",
            subject="locked set",
            facts={},
            seals=[use],
        )
    numbers.append(first_run(installation))
    installation.work()
    first, last = (installation.run(number) for number in numbers)
    assert first.state == RunState.AWAITING_APPROVAL, first.note
    assert last.state == RunState.REJECTED
    assert last.note.startswith("the locked reference set has judged 2 candidates")
    assert installation.gates(last.id) == {}
    with installation.driftward.database.reading() as session:
        assert ledger.verify(session).valid


def test_a_run_whose_labels_are_gone_ends_as_failed_and_says_why(
    installation: SmallInstallation,
) -> None:
    from monitor.tables import LabelRow

    number = first_run(installation)
    with installation.driftward.database.transaction() as session:
        rows = session.scalars(select(LabelRow)).all()
        tasks = {row.id: row.task for row in rows}
        for row in rows:
            row.task = "something else"
    installation.work()
    with installation.driftward.database.transaction() as session:
        for row in session.scalars(select(LabelRow)):
            row.task = tasks[row.id]
    run = installation.run(number)
    assert run.state == RunState.FAILED
    assert "have lost their label" in run.note


def test_the_candidate_says_what_it_was_made_of(installation: SmallInstallation) -> None:
    with installation.driftward.database.reading() as session:
        run = session.scalars(
            select(RunRow).where(RunRow.state == RunState.AWAITING_APPROVAL)
        ).one()
        candidate = session.get_one(VersionRow, run.candidate)
        assert (candidate.model, candidate.tier, candidate.origin) == (MODEL, "task", "run")
        assert session.get_one(VersionRow, candidate.base).model == "general"
        assert len(candidate.card["training_data"]) == 2
        gates = session.scalars(select(GateOutcomeRow)).all()
    assert all(gate.sentence for gate in gates)
    bundle = installation.driftward.bundles.open(candidate)
    assert bundle.digest == candidate.bundle_digest
    [task] = bundle.tasks
    assert task.threshold is not None


@pytest.mark.slow
def test_a_run_whose_scans_became_disputed_fails_and_says_what_to_do(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    made = SmallInstallation(tmp_path, empty_mlflow=empty_mlflow)
    made.found(plan_text(first_version_auc="0.0", locked_set_uses="2"))
    made.receive(80)
    made.label(since=made.clock.at)
    number = first_run(made)
    while made.run(number).state != RunState.VALIDATING:
        assert made.jobs.worker.run_one()
    made.contradict()
    made.work()
    run = made.run(number)
    assert run.state == RunState.FAILED
    assert "are disputed by now: adjudicate them (`driftward label disputed`)" in run.note
    assert made.gates(number) == {}


def held_out_scans(installation: SmallInstallation) -> list[ScanRow]:
    with installation.driftward.database.reading() as session:
        run = session.scalars(
            select(RunRow).where(RunRow.state == RunState.AWAITING_APPROVAL)
        ).one()
        return datasets.members(session, run.datasets[Purpose.LOCKED_REFERENCE])


def candidate_of(installation: SmallInstallation) -> VersionRow:
    with installation.driftward.database.reading() as session:
        return session.scalars(select(VersionRow).where(VersionRow.model == MODEL)).first()


def test_locked_scans_are_read_anew_under_every_small_change(
    installation: SmallInstallation,
) -> None:
    driftward, scans = installation.driftward, held_out_scans(installation)
    version = candidate_of(installation)
    [task] = driftward.bundles.open(version).tasks
    as_they_are = driftward.embedder.probabilities(version, scans, task.name)
    read = read_changed(driftward.embedder, driftward.bundles, version, scans, task=task)
    assert list(read) == list(CHANGES)
    for name, probabilities in read.items():
        assert probabilities.shape == as_they_are.shape
        assert (probabilities != as_they_are).any(), name
        assert np.corrcoef(probabilities[:, 1], as_they_are[:, 1])[0, 1] > 0.5, name


def test_two_bundles_are_timed_in_turn_on_the_same_scans(
    installation: SmallInstallation,
) -> None:
    driftward, version = installation.driftward, candidate_of(installation)
    bundle = driftward.bundles.open(version)
    scans = held_out_scans(installation)
    measured = timed_side_by_side(driftward.embedder, bundle, bundle, scans)
    assert len(measured.champion_seconds) == len(measured.candidate_seconds) == ROUNDS
    files = [path for path in bundle.root.rglob("*") if path.is_file()]
    assert measured.candidate_bytes == sum(len(path.read_bytes()) for path in files)
