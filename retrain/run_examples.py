"""A run's frozen scans as what its candidates learn from: targets, and what each scan is for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.tables import ScanRow
from registry.errors import ConflictError
from retrain import run_data
from retrain.tables import RunRow
from retrain.workspace import UNLABELLED, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExamples:
    """The frozen scans of a run, with their targets."""

    scans: list[ScanRow]
    #: 0, 1 or UNLABELLED
    targets: list[int]
    roles: list[Role]
    #: of the shift, and not of the reference that is mixed in
    shifted: list[bool]


def examples_of(session: Session, run: RunRow, task: str) -> RunExamples:
    """Return the training and selection scans of a run, with those that have no label.

    Raises
    ------
    ConflictError
        If some of them have lost their label since they were frozen.
    """
    scans: list[ScanRow] = []
    roles: list[Role] = []
    for purpose, role in (
        (Purpose.TRAINING, Role.TRAINING),
        (Purpose.SELECTION, Role.SELECTION),
    ):
        part = datasets.members(session, run.datasets[purpose])
        scans += part
        roles += [role] * len(part)
    known = labels.latest(session, [scan.id for scan in scans])
    missing = sum((scan.id, task) not in known for scan in scans)
    if missing:
        raise ConflictError(f"run {run.id}: {missing} of its scans have lost their label")
    targets = [known[scan.id, task].value for scan in scans]
    if Purpose.UNLABELLED in run.datasets:
        # Labels that came meanwhile are not looked at: the run was frozen without them.
        part = datasets.members(session, run.datasets[Purpose.UNLABELLED])
        scans += part
        targets += [UNLABELLED] * len(part)
        roles += [Role.TRAINING] * len(part)
    replayed = _replayed(session, run)
    return RunExamples(
        scans=scans,
        targets=targets,
        roles=roles,
        shifted=[scan.id not in replayed for scan in scans],
    )


def _replayed(session: Session, run: RunRow) -> set[int]:
    """Return the scans that the model's first version had, which a repair mixes in."""
    if run.episode is None:
        return set()
    first = run_data.first_run(session, run.model)
    return {
        scan.id
        for purpose in (Purpose.TRAINING, Purpose.SELECTION)
        for scan in datasets.members(session, first.datasets[purpose])
    }
