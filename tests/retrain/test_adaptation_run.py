"""A run that adapts to scans without labels, from the episode to its gates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from retraining_rows import seal
from small_installation import ANCHOR, BROKEN, MODEL, SmallInstallation, plan_text, recipe
from training_workspaces import train_here

from monitor import datasets
from monitor.datasets import Purpose
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.evaluating import ask_for_decision
from monitor.monitors import apply_monitor, parse_monitor
from monitor.tables import DatasetRow, EpisodeRow, ScanRow
from registry.versions import VersionRow
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.executors.local import LocalExecutor
from retrain.promotion import promote
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.tables import RunRow

# MLflow's own queries use a loader that SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)
ADAPTING = "self-supervised adaptation"
HISTORY, UNLABELLED = 200, 60
#: As the plan says: a fifth of 100 labels chooses and three tenths judge; none trains.
LABELLED = 50
PLAN = plan_text(
    acquisition=ADAPTING,
    technical=ADAPTING,
    at_least="100",
    locked_share="0.3",
    selection_share="0.2",
    epochs="2\n  adaptation_epochs: 2",
    first_version_auc="0.0",
)
MONITOR = f"""
name: chest
model: {MODEL}
task: pneumonia
monitoring_encoder: general@1
window_hours: 84
alpha_per_week: 0.005
subgroup_attributes: [software_version]
floor: 20
anchor: {ANCHOR.isoformat()}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    made: SmallInstallation
    run: RunRow
    #: what the run said while too few labels were there
    waited: str
    unlabelled: set[int]

    def members(self, purpose: Purpose) -> list[ScanRow]:
        with self.made.driftward.database.reading() as session:
            return datasets.members(session, self.run.datasets[purpose])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[Adapted]:
    """Adapt in this process, which saves the seconds that importing torch takes."""

    def train(executor: LocalExecutor, folder: Path, *, tell: Callable[[], None]) -> None:
        train_here(folder)
        tell()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalExecutor, "train", train)
        yield _adapted(tmp_path_factory, empty_mlflow)


def _adapted(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Adapted:
    made = SmallInstallation(tmp_path_factory.mktemp("adapted"), empty_mlflow=empty_mlflow)
    _first_version(made)
    made.clock.at = ANCHOR + timedelta(hours=1)
    made.receive(UNLABELLED, software=BROKEN)
    episode = _open_episode(made)
    made.work()
    waited = _newest(made).note
    made.clock.at += timedelta(hours=1)
    at = made.clock.at
    made.receive(LABELLED, software=BROKEN)
    made.clock.at += timedelta(hours=1)
    made.label(since=at)
    with made.driftward.database.transaction() as session:
        unlabelled = {
            scan.id
            for scan in session.query(ScanRow).filter(
                ScanRow.arrived_at >= ANCHOR, ScanRow.arrived_at < at
            )
        }
        ask_for_decision(session, session.get_one(EpisodeRow, episode))
    made.work()
    return Adapted(made=made, run=_newest(made), waited=waited, unlabelled=unlabelled)


def _first_version(made: SmallInstallation) -> None:
    made.found(PLAN)
    made.receive(HISTORY)
    made.label(since=made.clock.at)
    shares = {"training_share": "0.5", "selection_share": "0.2", "locked_share": "0.2"}
    start_first_run(
        made.driftward.database,
        recipe(epochs="2", **shares),
        since=None,
        until=None,
        seed=0,
        by=made.operator,
        clock=made.clock,
    )
    made.work()
    with made.driftward.database.transaction() as session:
        [run] = runs.all_runs(session, MODEL)
        approvals.sign(
            session,
            run,
            Meaning.APPROVED,
            by=made.operator,
            reason="gates seen",
            at=made.clock.at,
        )
        promote(session, run, by=made.operator, at=made.clock.at)
        apply_monitor(
            session,
            parse_monitor(MONITOR, source="monitor.yaml"),
            actor=made.operator.name,
            at=made.clock.at,
        )


def _open_episode(made: SmallInstallation) -> int:
    with made.driftward.database.transaction() as session:
        row = EpisodeRow(
            monitor="chest",
            state=EpisodeState.OPEN.value,
            opened_at=made.clock.at,
            onset=ANCHOR,
            cause=Cause.ACQUISITION.value,
            subgroup=None,
            impact=Impact.MEASURED.value,
            p_value=0.001,
            effect=1.0,
            evidence={"impact": {"scans": LABELLED}},
            heaviest=[],
        )
        session.add(row)
        seal(session, "episode.opened", row)
        ask_for_decision(session, row)
        return row.id


def _newest(made: SmallInstallation) -> RunRow:
    with made.driftward.database.reading() as session:
        return runs.all_runs(session, MODEL)[0]


def test_it_waits_for_the_labels_that_judge_and_choose_and_for_none_that_train(
    adapted: Adapted,
) -> None:
    assert adapted.waited == f"waits for {LABELLED} labelled scans of the shift"


def test_it_is_frozen_with_the_scans_that_have_no_label(adapted: Adapted) -> None:
    assert {scan.id for scan in adapted.members(Purpose.UNLABELLED)} == adapted.unlabelled
    with adapted.made.driftward.database.reading() as session:
        row = session.get_one(DatasetRow, adapted.run.datasets[Purpose.UNLABELLED])
        candidate = session.get_one(VersionRow, adapted.run.candidate)
    assert (row.purpose, row.scans) == ("unlabelled", UNLABELLED)
    assert row.digest in {data["digest"] for data in candidate.card["training_data"]}


def test_no_label_of_the_shift_trains(adapted: Adapted) -> None:
    assert all(scan.arrived_at < ANCHOR for scan in adapted.members(Purpose.TRAINING))


def test_who_judges_or_chooses_is_not_adapted_to(adapted: Adapted) -> None:
    taught = {scan.person for scan in adapted.members(Purpose.UNLABELLED)}
    for purpose in (Purpose.LOCKED_DRIFTED, Purpose.LOCKED_REFERENCE, Purpose.SELECTION):
        assert not taught & {scan.person for scan in adapted.members(purpose)}


def test_its_candidate_has_an_encoder_of_its_own_and_met_the_gates(adapted: Adapted) -> None:
    run = adapted.run
    assert adapted.made.failed_jobs() == []
    assert run.state in {RunState.REJECTED, RunState.AWAITING_APPROVAL}, run.note
    assert run.strategy == ADAPTING
    gates = adapted.made.gates(run.id)
    assert gates["no_patient_on_both_sides"] == gates["label_provenance"] == "passed"
    with adapted.made.driftward.database.reading() as session:
        candidate = session.get_one(VersionRow, run.candidate)
        base = session.get_one(VersionRow, run.base)
    assert candidate.encoder_digest != base.encoder_digest


def test_mlflow_names_the_scans_without_labels_as_an_input(adapted: Adapted) -> None:
    from mlflow import MlflowClient

    home = adapted.made.driftward.home
    client = MlflowClient(tracking_uri=f"sqlite:///{home.mlflow / 'mlflow.db'}")
    with adapted.made.driftward.database.reading() as session:
        candidate = session.get_one(VersionRow, adapted.run.candidate)
        row = session.get_one(DatasetRow, adapted.run.datasets[Purpose.UNLABELLED])
    inputs = {
        one.dataset.name: one.dataset
        for one in client.get_run(candidate.mlflow_run).inputs.dataset_inputs
    }
    assert json.loads(inputs[f"{MODEL}-unlabelled"].source) == {"digest": row.digest}
    assert json.loads(inputs[f"{MODEL}-unlabelled"].profile) == {"scans": UNLABELLED}
