"""A run's frozen scans as what its candidates learn from: targets, and what each scan is for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.labelling.truth import Truth
from monitor.performance.finding import holds
from monitor.tables import ScanRow
from registry.bundles.heads import Task, TaskKind
from registry.errors import ConflictError
from retrain import run_data
from retrain.tables import RunRow
from retrain.workspace import UNLABELLED, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExamples:
    """The frozen scans of a run, with their targets."""

    scans: list[ScanRow]
    #: [n] or, of several findings, [n, k]: as `retrain.strategies.scans.Scans` has them
    targets: npt.NDArray[np.int64]
    roles: list[Role]
    #: of the shift, and not of the reference that is mixed in
    shifted: list[bool]


def examples_of(session: Session, run: RunRow, task: Task) -> RunExamples:
    """Return the training and selection scans of a run, with those that have no label.

    Raises
    ------
    ConflictError
        If some of them have lost their label since they were frozen, or it does not say
        which findings there are.
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
    missing = sum((scan.id, task.name) not in known for scan in scans)
    if missing:
        raise ConflictError(f"run {run.id}: {missing} of its scans have lost their label")
    targets = [target_of(task, known[scan.id, task.name]) for scan in scans]
    unknown = target_like(task, UNLABELLED)
    if Purpose.UNLABELLED in run.datasets:
        # Labels that came meanwhile are not looked at: the run was frozen without them.
        part = datasets.members(session, run.datasets[Purpose.UNLABELLED])
        scans += part
        targets += [unknown] * len(part)
        roles += [Role.TRAINING] * len(part)
    replayed = _replayed(session, run)
    return RunExamples(
        scans=scans,
        targets=np.array(targets, dtype=np.int64),
        roles=roles,
        shifted=[scan.id not in replayed for scan in scans],
    )


def target_of(task: Task, truth: Truth) -> int | list[int]:
    """Return what a head learns of a scan: its class, or of each finding 0 or 1.

    Raises
    ------
    ConflictError
        If the label of a multi-label task does not say which findings there are.
    """
    if task.kind is not TaskKind.MULTI_LABEL:
        return truth.value
    return [int(holds(task, finding, truth)) for finding in task.classes]


def target_like(task: Task, value: int) -> int | list[int]:
    """Return one value for all that a task asks of a scan."""
    return value if task.kind is not TaskKind.MULTI_LABEL else [value] * len(task.classes)


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
