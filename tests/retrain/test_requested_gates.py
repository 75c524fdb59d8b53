"""Gates on requested labels, end to end: the same labels without their weights decide otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from databases import on_sqlite
from requested_labels import RequestedLabels, requested_plan
from retraining_rows import Retraining, candidate_of, ledger_is_valid
from sqlalchemy import select

from monitor import labels
from monitor.tables import ScanRow
from registry import serving
from registry.bundles.heads import Task, TaskKind
from registry.database import Database
from registry.jobs import Claim
from registry.versions import VersionRow
from retrain import gathering, runs
from retrain.gates.deployment import DeploymentMeasurement
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.outcome import Gate, Outcome
from retrain.gates.results import Floats
from retrain.states import RunState
from retrain.tables import GateOutcomeRow
from retrain.validating import Validator

TASK = Task(
    name="pneumonia",
    kind=TaskKind.MULTI_CLASS,
    classes=("normal", "pneumonia"),
    positive="pneumonia",
    threshold=0.5,
)


@dataclass(frozen=True, kw_only=True)
class KnownReadings:
    """Readings that are written down, by version and scan."""

    by_version: Mapping[int, Mapping[int, float]]

    def task(self, version: VersionRow, name: str) -> Task:
        return TASK

    def probabilities(self, version: VersionRow, scans: Sequence[ScanRow], task: str) -> Floats:
        said = np.array([self.by_version[version.id][scan.id] for scan in scans])
        return np.column_stack([1.0 - said, said])

    def parity(self, version: VersionRow) -> ParityMeasurement:
        return ParityMeasurement(max_abs_error=0.0, scans=10)

    def changed(
        self, version: VersionRow, scans: Sequence[ScanRow], *, task: Task
    ) -> dict[str, Floats] | None:
        return None

    def timed(
        self, champion: VersionRow, candidate: VersionRow, scans: Sequence[ScanRow]
    ) -> DeploymentMeasurement | None:
        return None


class NoMetrics:
    def log_metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        """Keep nothing."""


def candidate_scores(world: RequestedLabels) -> dict[int, float]:
    """Return what a candidate says that mends what is near the threshold and spoils the rest."""
    rng = np.random.default_rng(11)
    odds = {scan: np.log(p / (1 - p)) for scan, p in world.scores.items()}
    near = np.quantile(np.abs(list(odds.values())), 1 / 3)
    found = {}
    for scan, probability in world.scores.items():
        found[scan] = probability
        if world.truth[scan] and abs(odds[scan]) <= near and probability < 0.5:
            found[scan] = 0.6 if rng.random() < 0.75 else probability
        elif world.truth[scan] and abs(odds[scan]) > near and probability >= 0.5:
            found[scan] = 0.4 if rng.random() < 0.45 else probability
    return found


@on_sqlite
def test_a_candidate_that_only_mends_what_was_drawn_more_often_is_refused_by_its_weights(
    retraining: Retraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = RequestedLabels(retraining=retraining, seed=4)
    text = requested_plan(
        request="favour_near_threshold: 3, gain: 0.2, at_most: 2000",
        at_least="450",
        locked_share="0.6",
        selection_share="0.25",
        drifted_margins="{sensitivity: 0.25, specificity: 0.25, auc: 0.45}",
    )
    world.apply(text)
    world.receive(700, prevalence=0.6, with_finding=0.2)
    run = world.complete(world.open())
    assert run.state == RunState.QUEUED
    champion, candidate, reader = prepared(world, run.id)
    # In the frame itself the candidate is worse, and was never better.
    ill = [scan for scan, truth in world.truth.items() if truth]
    rates = [
        np.mean([reader.by_version[one][scan] >= 0.5 for scan in ill])
        for one in (champion, candidate)
    ]
    assert rates[1] < rates[0]
    claim = retraining.claim("validate", f"validate/run {run.id}", {"run": run.id})
    retraining.database.dispose()
    source = Path(retraining.database.engine.url.database or "")
    shutil.copyfile(source, tmp_path / "copy.db")

    weighed = verdict(retraining.database, reader, claim, retraining)
    monkeypatch.setattr(gathering, "_weights", lambda *_: None)
    naive = verdict(Database(f"sqlite:///{tmp_path / 'copy.db'}"), reader, claim, retraining)
    assert naive.outcome == Outcome.PASSED
    assert weighed.outcome == Outcome.FAILED
    assert "weighted by inverse inclusion" in str(weighed.detail)
    assert "weighted" not in str(naive.detail)
    assert world.reload(run.id).state == RunState.REJECTED
    assert ledger_is_valid(retraining.database)


def prepared(world: RequestedLabels, number: int) -> tuple[int, int, KnownReadings]:
    """Give the run a candidate; on the reference both read everything right."""
    with world.retraining.database.transaction() as session:
        champion = serving.require_champion(session, "pneumonia")
        candidate = candidate_of(session, champion)
        run = runs.require_run(session, number)
        run.candidate = candidate.id
        for state in (RunState.TRAINING, RunState.VALIDATING):
            runs.advance(
                session, run, state, note="test", actor="test", at=world.retraining.now
            )
        others = [
            scan for scan in session.scalars(select(ScanRow.id)) if scan not in world.truth
        ]
        known = labels.latest(session, others)
    right = {scan: 0.9 if one.value else 0.1 for (scan, _), one in known.items()}
    return (
        champion.id,
        candidate.id,
        KnownReadings(
            by_version={
                champion.id: {**right, **world.scores},
                candidate.id: {**right, **candidate_scores(world)},
            }
        ),
    )


def verdict(
    database: Database, reader: KnownReadings, claim: Claim, retraining: Retraining
) -> GateOutcomeRow:
    Validator(database, reader, NoMetrics(), retraining.clock).handle(claim)
    with database.reading() as session:
        found = session.scalars(
            select(GateOutcomeRow).where(
                GateOutcomeRow.run == claim.payload["run"],
                GateOutcomeRow.name == Gate.SUPERIORITY,
            )
        ).one()
    database.dispose()
    return found
