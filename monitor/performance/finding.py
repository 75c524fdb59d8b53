"""What a stored result and a label say of the finding that a task looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.labelling.truth import Truth
from monitor.tables import ResultRow
from registry.bundles.heads import Task, TaskKind
from registry.canonical import Json
from registry.errors import ConflictError
from registry.versions import VersionRow, task_of

#: What a label's value is where the finding is there, of results that do not say which class it is.
PRESENT = 1


def score(probabilities: Sequence[float], finding: int | None) -> float:
    """Return the probability of the finding: of its class, or of the last.

    >>> score([0.7, 0.2, 0.1], 0), score([0.4, 0.6], None)
    (0.7, 0.6)
    """
    return float(probabilities[-1 if finding is None else finding])


def is_there(value: int, finding: int | None) -> bool:
    """Return whether a label's value says that the finding is there.

    >>> is_there(0, 0), is_there(2, 0), is_there(1, None)
    (True, False, True)
    """
    return value == (PRESENT if finding is None else finding)


def holds(task: Task, finding: str, truth: Truth) -> bool:
    """Return whether a label says that one of a task's findings is there.

    Raises
    ------
    ConflictError
        If the label of a multi-label task does not say which findings there are.
    """
    if task.kind is not TaskKind.MULTI_LABEL:
        return truth.value == task.classes.index(finding)
    if truth.classes is not None:
        return finding in truth.classes
    if not says_which(task, truth):
        raise ConflictError(
            f"a label of task {task.name} says that something is there and not what: declare its "
            "classes in a label mapping (`driftward label mapping apply`), and hand the labels in "
            "anew"
        )
    return bool(truth.value)


def says_which(task: Task, truth: Truth) -> bool:
    """Return whether a label says which of a task's findings are there."""
    known = task.kind is not TaskKind.MULTI_LABEL or truth.classes is not None
    return known or len(task.classes) == 1 or not truth.value


def findings_judged(session: Session, *, version: int, task: str) -> tuple[str, ...]:
    """Return the findings of a task that are judged one by one; one without a name if it has one.

    So it is for a version from before its tasks were kept.
    """
    declared = task_of(session.get_one(VersionRow, version), task)
    several = declared is not None and declared.kind is TaskKind.MULTI_LABEL
    return declared.findings if declared and several and len(declared.classes) > 1 else ("",)


def said(version: VersionRow, result: ResultRow) -> dict[str, Json]:
    """Return a result as people are told of it.

    `probability` is that of the finding, None where there are several or none; `classes` has
    the probability of every class by its name, where the version says its tasks; `says` puts
    into words what the threshold decides.
    """
    task, threshold = task_of(version, result.task), result.threshold
    one = task is None or len(task.findings) == 1
    by_class: dict[str, Json] = {}
    if task is not None:
        by_class = dict(zip(task.classes, map(float, result.probabilities), strict=True))
    probability = score(result.probabilities, result.finding) if one else None
    if threshold is None:
        says = "no threshold"
    elif probability is not None:
        says = "positive" if probability >= threshold else "negative"
    else:
        called = [name for name, share in by_class.items() if cast("float", share) >= threshold]
        says = ", ".join(called) or "no finding"
    return {
        "probability": probability,
        "threshold": threshold,
        "classes": by_class,
        "says": says,
    }


def finding_of(session: Session, *, model: str, task: str) -> int | None:
    """Return which class a model's newest result of a task looks for, None if it does not say."""
    return session.scalars(
        select(ResultRow.finding)
        .join(VersionRow, VersionRow.id == ResultRow.version)
        .where(VersionRow.model == model, ResultRow.task == task)
        .order_by(ResultRow.id.desc())
        .limit(1)
    ).first()
