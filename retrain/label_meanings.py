"""Whether the labels of a run mean what its task takes them for.

A label that names a class is stored as the class's number, by the order in which the label mapping
or the champion had the classes when it was read. A task with another order, kind or number of
classes would learn something else from it, and every gate would judge by the same mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.labelling.influence import PARAMETERS
from monitor.labelling.mapping import (
    MappedTask,
    MappingInForce,
    mapping_in_force,
    mappings_applied,
)
from monitor.labelling.truth import Truth
from monitor.performance.finding import says_which
from monitor.tables import LabelRow
from registry import serving
from registry.bundles.heads import Task, TaskKind, declared_in_words
from registry.errors import BadInputError
from registry.versions import ref, task_of
from retrain.tables import RunRow

#: The kind of a task, and its classes in their order.
Declared: TypeAlias = tuple[TaskKind, tuple[str, ...]]
#: How many values that do not fit an error names.
_NAMED = 8
_ANEW = "hand the labels in anew, signed later"


def require_declared_alike(session: Session, task: Task) -> None:
    """Refuse a task that labels are read for by other classes than it has.

    Raises
    ------
    BadInputError
        Naming the classes of both, and the way out.
    """
    wanted = (task.kind, task.classes)
    in_force = mapping_in_force(session)
    if in_force is not None and task.name in in_force.specification.tasks:
        read_by = _declared(in_force.specification.tasks[task.name])
        if read_by != wanted:
            raise BadInputError(
                f"{_to_learn(task)}, and the label mapping in force ({_name(in_force)}) reads its "
                f"labels as {declared_in_words(*read_by)}: declare the task so in the recipe; if "
                f"the mapping is wrong, apply a corrected one with a higher version, and {_ANEW}"
            )
    else:
        _require_as_champions(session, task)


def require_labels_fit(session: Session, run: RunRow, task: Task) -> None:
    """Refuse a run whose task has other classes than the labels of its frozen scans.

    Raises
    ------
    BadInputError
        Naming the classes of both, and the way out.
    """
    require_declared_alike(session, task)
    scans = {
        scan
        for purpose, dataset in run.datasets.items()
        if purpose != Purpose.UNLABELLED
        for scan in datasets.member_ids(session, dataset)
    }
    known = labels.latest(session, sorted(scans))
    truths = [truth for (_, name), truth in known.items() if name == task.name]
    _require_read_alike(session, task, truths)
    _require_possible(task, truths)


def _require_as_champions(session: Session, task: Task) -> None:
    """Hold a task that no mapping names against what champions say of it: these read its labels."""
    for version in serving.champions(session):
        has = task_of(version, task.name)
        if has is not None and (has.kind, has.classes) != (task.kind, task.classes):
            raise BadInputError(
                f"{_to_learn(task)}, and the champion {ref(version)}, by which its labels are "
                f"read, has it as {declared_in_words(has.kind, has.classes)}: declare the task so "
                "in the recipe, or give it another name"
            )


def _require_read_alike(session: Session, task: Task, truths: Sequence[Truth]) -> None:
    """Hold a task against the mappings that were in force when its labels came."""
    applied = mappings_applied(session)
    if not applied:
        return
    ids = [label for truth in truths for label in truth.labels]
    arrivals = {
        moment
        for start in range(0, len(ids), PARAMETERS)
        for moment in session.scalars(
            select(LabelRow.arrived_at)
            .where(LabelRow.id.in_(ids[start : start + PARAMETERS]))
            .distinct()
        )
    }
    read_by = {
        mapping.digest: mapping
        for moment in arrivals
        for mapping in [one for one in applied if one.applied_at <= moment][-1:]
    }
    for mapping in read_by.values():
        mapped = mapping.specification.tasks.get(task.name)
        if mapped is not None and not _means_the_same(_declared(mapped), task):
            raise BadInputError(
                f"{_to_learn(task)}, and labels of its scans were read by the label mapping "
                f"{_name(mapping)} as {declared_in_words(*_declared(mapped))}: {_ANEW}, or declare "
                "the task so in the recipe and in the mapping"
            )


def _means_the_same(read_by: Declared, task: Task) -> bool:
    """Say whether labels that were read so mean the same in a task that may have grown since."""
    kind, classes = read_by
    if kind is not task.kind:
        return False
    if kind is TaskKind.MULTI_LABEL:
        # Names are stored. Nothing was said of a class that was not known then.
        return set(task.classes) <= set(classes)
    return classes == task.classes[: len(classes)]


def _require_possible(task: Task, truths: Sequence[Truth]) -> None:
    """Hold a task against what its labels say, which may have come when nothing declared it."""
    impossible = [truth for truth in truths if not _is_possible(task, truth)]
    if not impossible:
        return
    held = sorted(
        {"|".join(truth.classes) for truth in impossible if truth.classes is not None}
        | {f"number {truth.value}" for truth in impossible if truth.classes is None}
    )
    named = [name or "no class" for name in held[:_NAMED]] + ["…"] * (len(held) > _NAMED)
    raise BadInputError(
        f"{_to_learn(task)}, and {len(impossible)} of the {len(truths)} labels of its scans are "
        f"no value of it ({', '.join(named)}): declare the kind and "
        "all classes that labels hold in the recipe, or declare the task in a label mapping "
        f"(`driftward label mapping apply`) and {_ANEW}"
    )


def _is_possible(task: Task, truth: Truth) -> bool:
    if task.kind is TaskKind.MULTI_CLASS:
        return truth.classes is None and truth.value < len(task.classes)
    if truth.classes is None:
        return truth.value <= 1 and says_which(task, truth)
    return set(truth.classes) <= set(task.classes)


def _declared(mapped: MappedTask) -> Declared:
    return TaskKind(mapped.kind), tuple(mapped.classes)


def _to_learn(task: Task) -> str:
    return f"task {task.name} is to be learned as {declared_in_words(task.kind, task.classes)}"


def _name(mapping: MappingInForce) -> str:
    return f"{mapping.specification.name} {mapping.specification.version}"
