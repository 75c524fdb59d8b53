"""Which objective a task has."""

from __future__ import annotations

from registry.bundles.heads import Task, TaskKind
from retrain.strategies.objective import Objective
from retrain.strategies.one_finding import OneFinding
from retrain.strategies.several_classes import SeveralClasses
from retrain.strategies.several_findings import SeveralFindings


def objective_of(task: Task) -> Objective:
    """Return what a head of a task learns."""
    if task.kind is TaskKind.MULTI_LABEL:
        return SeveralFindings(task)
    return OneFinding(task) if task.tells_two_apart else SeveralClasses(task)
