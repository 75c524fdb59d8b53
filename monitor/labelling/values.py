"""Which values a label of a task can have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import serving
from registry.bundle_store import BundleStore
from registry.bundles.heads import TaskKind
from registry.errors import LabelError
from registry.versions import ModelRow

#: Between the classes of a set in a CSV file, and what stands for a set without any.
SEPARATOR, NO_CLASS = "|", "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelValue:
    """A value as it is stored."""

    #: number of the class; of a multi-label task 1 if any class holds, and else 0
    value: int
    #: of a multi-label task: the classes that hold, sorted
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskValues:
    """What a task can have as its value."""

    task: str
    multi_label: bool = False
    #: by name, in the task's order; none where nothing but 0 and 1 is known of it
    classes: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        if self.multi_label:
            return (
                f"classes of {self.task} joined by {SEPARATOR}, or {NO_CLASS} for none: "
                f"{', '.join(self.classes)}"
            )
        if not self.classes:
            return "0 or 1"
        return f"0 to {len(self.classes) - 1}, or one of {', '.join(self.classes)}"

    def read(self, said: object) -> LabelValue | None:
        """Return a value as it is stored, or None where the task cannot have it.

        Parameters
        ----------
        said : a number or a name; of a multi-label task a list of names, or names with
            `SEPARATOR` between them
        """
        if self.multi_label:
            return self._read_set(said)
        count = len(self.classes) or 2
        if isinstance(said, str) and said in self.classes:
            return LabelValue(value=self.classes.index(said))
        if isinstance(said, str) and said in {str(number) for number in range(count)}:
            return LabelValue(value=int(said))
        if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < count:
            return LabelValue(value=said)
        return None

    def _read_set(self, said: object) -> LabelValue | None:
        names: Sequence[object]
        if isinstance(said, str):
            names = [] if said == NO_CLASS else said.split(SEPARATOR)
        elif isinstance(said, list | tuple | frozenset):
            names = list(said)
        else:
            return None
        chosen = [name for name in names if isinstance(name, str) and name in self.classes]
        if len(chosen) != len(names) or len(set(chosen)) != len(chosen):
            return None
        return LabelValue(value=int(bool(chosen)), classes=tuple(sorted(chosen)))


#: Returns what a task can have as its value, by its name.
ValuesOf: TypeAlias = Callable[[str], TaskValues]


def zero_or_one(task: str) -> TaskValues:
    """Return the values of a task of which nothing is known."""
    return TaskValues(task=task)


def champions_values(session: Session, bundles: Callable[[], BundleStore]) -> ValuesOf:
    """Return what finds a task among those of all champions; another has 0 and 1.

    Raises
    ------
    LabelError
        When it is asked for a task that two champions have with different classes.
    """
    known: dict[str, TaskValues] | None = None

    def values_of(task: str) -> TaskValues:
        nonlocal known
        if known is None:
            known = _of_champions(session, bundles)
        return known.get(task) or zero_or_one(task)

    return values_of


def _of_champions(
    session: Session, bundles: Callable[[], BundleStore]
) -> dict[str, TaskValues]:
    found: dict[str, TaskValues] = {}
    for name in session.scalars(select(ModelRow.name).order_by(ModelRow.name)):
        champion = serving.champion(session, name)
        if champion is None:
            continue
        for task in bundles().open(champion).tasks:
            values = TaskValues(
                task=task.name,
                multi_label=task.kind is TaskKind.MULTI_LABEL,
                classes=task.classes,
            )
            if found.setdefault(task.name, values) != values:
                raise LabelError(
                    f"champions differ in the classes of task {task.name}: say in the mapping "
                    "which it has (`driftward label mapping apply`)",
                    problem="impossible_value",
                )
    return found
