"""Tasks on top of an embedding: a linear head each, with classes, threshold and temperature.

heads.json says what the tasks are; heads.safetensors holds `<task>.weight`
[k, d] and `<task>.bias` [k], float32.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundles.documents import Section, read_json, write_json
from registry.canonical import Json
from registry.errors import BundleError

Floats: TypeAlias = NDArray[np.float32]
HeadState: TypeAlias = Mapping[str, Floats]

# A task's name becomes part of an ONNX output's name, of a metric's and of a column's.
_TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
LONGEST_CLASS_NAME = 64
# Outside this range a temperature no longer calibrates: it has made every
# probability 1/k, or 0 and 1.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0


class TaskKind(StrEnum):
    """How the classes of a task relate."""

    MULTI_CLASS = "multi-class"  #: exactly one class holds; softmax
    MULTI_LABEL = "multi-label"  #: each class holds or not by itself; sigmoid


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a head decides.

    The threshold applies to the probability of the positive class
    (multi-class), or of each class (multi-label; classes that need thresholds
    of their own are tasks of their own).

    Raises
    ------
    BundleError
        If a value is impossible; the message names task and value.
    """

    name: str  #: small letters, digits and _, at most 48
    kind: TaskKind
    classes: tuple[str, ...]  #: in the order of the logits
    positive: str | None = None  #: the class that is looked for; multi-class only
    threshold: float | None = None  #: in (0, 1); None where nothing is decided by one
    temperature: float = 1.0  #: logits are divided by it (Guo et al. 2017, arXiv 1706.04599)

    def __post_init__(self) -> None:
        if not _TASK_NAME.fullmatch(self.name):
            raise BundleError(
                f"task {self.name!r}: a name is small letters, digits and _, starts with a "
                "letter and has at most 48 characters"
            )
        self._check_classes()
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise BundleError(f"task {self.name}: threshold {self.threshold} is not in (0, 1)")
        if not LOWEST_TEMPERATURE <= self.temperature <= HIGHEST_TEMPERATURE:
            raise BundleError(
                f"task {self.name}: temperature {self.temperature} is not between "
                f"{LOWEST_TEMPERATURE} and {HIGHEST_TEMPERATURE}"
            )

    @property
    def column(self) -> int:
        """Where a result's probabilities hold the finding: the class looked for, or the last."""
        return -1 if self.positive is None else self.classes.index(self.positive)

    @property
    def present(self) -> int:
        """A label's value where the finding is there: its class's number; of several labels 1."""
        return 1 if self.positive is None else self.classes.index(self.positive)

    @property
    def findings(self) -> tuple[str, ...]:
        """The classes that the threshold decides about, each by itself; none without a positive.

        >>> Task(name="chest", kind=TaskKind.MULTI_LABEL, classes=("mass", "fluid")).findings
        ('mass', 'fluid')
        """
        if self.kind is TaskKind.MULTI_LABEL:
            return self.classes
        return () if self.positive is None else (self.positive,)

    @property
    def tells_two_apart(self) -> bool:
        """Whether it is a finding and its absence, the finding last."""
        return len(self.classes) == 2 and self.positive == self.classes[-1]

    def _check_classes(self) -> None:
        fewest = 2 if self.kind is TaskKind.MULTI_CLASS else 1
        if len(self.classes) < fewest or len(set(self.classes)) < len(self.classes):
            raise BundleError(
                f"task {self.name}: {self.kind.value} needs at least {fewest} classes, "
                f"each once, got {list(self.classes)}"
            )
        for name in self.classes:
            if not name.isprintable() or not 0 < len(name.strip()) <= LONGEST_CLASS_NAME:
                raise BundleError(f"task {self.name}: {name!r} cannot be the name of a class")
        if self.kind is TaskKind.MULTI_LABEL and self.positive is not None:
            raise BundleError(f"task {self.name}: a multi-label task has no positive class")
        if self.positive is not None and self.positive not in self.classes:
            raise BundleError(
                f"task {self.name}: positive class {self.positive!r} is not in "
                f"{list(self.classes)}"
            )
        if (
            self.kind is TaskKind.MULTI_CLASS
            and self.threshold is not None
            and self.positive is None
        ):
            raise BundleError(f"task {self.name}: a threshold needs a positive class")

    @property
    def output(self) -> str:
        """Name of the task's output in the ONNX graph."""
        return f"logits_{self.name}"

    def probabilities(self, logits: Floats) -> Floats:
        """Return calibrated probabilities.

        Parameters
        ----------
        logits : float32, shape [n, k]

        Returns
        -------
        float32, shape [n, k]; rows sum to 1 for a multi-class task. Computed
        in float64, so that the result does not depend on the order of a sum.

        Raises
        ------
        BundleError
            If the logits are not [n, k] for the task's k classes.

        >>> task = Task(name="finding", kind=TaskKind.MULTI_CLASS, classes=("no", "yes"))
        >>> task.probabilities(np.zeros((1, 2), dtype=np.float32))
        array([[0.5, 0.5]], dtype=float32)
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.classes):
            raise BundleError(
                f"task {self.name}: logits of shape {list(logits.shape)} "
                f"for {len(self.classes)} classes"
            )
        scaled = logits.astype(np.float64) / self.temperature
        match self.kind:
            case TaskKind.MULTI_CLASS:
                powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
                result = powers / powers.sum(axis=1, keepdims=True)
            case TaskKind.MULTI_LABEL:
                # tanh saturates where exp would overflow.
                result = 0.5 * (1.0 + np.tanh(0.5 * scaled))
        probabilities: Floats = result.astype(np.float32)
        return probabilities

    def calls(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Say what the threshold decides: at the threshold counts as called.

        Parameters
        ----------
        probabilities : float32, shape [n, k]

        Returns
        -------
        bool, shape [n] for the positive class (multi-class), or [n, k]
        (multi-label).

        Raises
        ------
        BundleError
            If the task has no threshold.
        """
        if self.threshold is None:
            raise BundleError(f"task {self.name} has no threshold to decide by")
        reached: NDArray[np.bool_] = probabilities >= np.float32(self.threshold)
        return (
            reached if self.positive is None else reached[:, self.classes.index(self.positive)]
        )

    def to_json(self) -> dict[str, Json]:
        """Return the task as it stands in heads.json."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "classes": list(self.classes),
            "positive": self.positive,
            "threshold": None if self.threshold is None else float(self.threshold),
            "temperature": float(self.temperature),
        }


def declared_in_words(kind: TaskKind, classes: Sequence[str]) -> str:
    """Return a kind and its classes as an error names them.

    >>> declared_in_words(TaskKind.MULTI_LABEL, ("mass", "fluid"))
    'multi-label with the classes mass, fluid, in this order'
    """
    return f"{kind.value} with the classes {', '.join(classes)}, in this order"


def task_from(record: Mapping[str, Any]) -> Task:
    """Return the task that `Task.to_json` wrote."""
    return Task(
        **{
            **record,
            "kind": TaskKind(record["kind"]),
            "classes": tuple(record["classes"]),
        }
    )


def read_tasks(path: Path) -> tuple[Task, ...]:
    """Return the tasks in the file `path` (heads.json).

    Raises
    ------
    BundleError
        If the file is not valid, has an unknown key, or names a task twice.
    """
    document = read_json(path)
    tasks = tuple(_task(section) for section in document.sections("tasks"))
    document.close()
    require_distinct(tasks)
    return tasks


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Write the tasks to the file `path` (heads.json)."""
    write_json(path, {"tasks": [task.to_json() for task in tasks]})


def require_distinct(tasks: Iterable[Task]) -> None:
    """Refuse two tasks of one name.

    Raises
    ------
    BundleError
        If a name stands twice.
    """
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BundleError(f"task {twice[0]} stands twice")


def read_head_state(path: Path, tasks: Sequence[Task], *, dimension: int) -> dict[str, Floats]:
    """Return the weights of the heads in the file `path` (heads.safetensors).

    Raises
    ------
    BundleError
        If the file is not safetensors, or does not hold exactly the finite
        float32 weights that the tasks need on an embedding of `dimension`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        state = load(path.read_bytes())
    except (SafetensorError, KeyError, OSError) as error:
        raise BundleError(f"{path.name} cannot be read as safetensors: {error}") from error
    return checked_head_state(state, tasks, dimension=dimension)


def write_head_state(path: Path, state: HeadState) -> None:
    """Write the weights of the heads to the file `path` (heads.safetensors)."""
    from safetensors.numpy import save

    ordered = {name: np.ascontiguousarray(state[name]) for name in sorted(state)}
    path.write_bytes(save(ordered))


def checked_head_state(
    state: Mapping[str, NDArray[Any]], tasks: Sequence[Task], *, dimension: int
) -> dict[str, Floats]:
    """Return `state` once it is known to fit.

    Raises
    ------
    BundleError
        If a weight is absent, left over, of another shape or type, or not finite.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for task in tasks:
        expected[f"{task.name}.weight"] = (len(task.classes), dimension)
        expected[f"{task.name}.bias"] = (len(task.classes),)
    for name in sorted(expected.keys() ^ state.keys()):
        state_of_it = "lack" if name in expected else "hold what no task asks for:"
        raise BundleError(f"heads {state_of_it} {name!r}")
    for name, shape in expected.items():
        value = state[name]
        if value.dtype != np.float32 or value.shape != shape:
            raise BundleError(
                f"heads: {name!r} must be float32 of shape {list(shape)}, "
                f"got {value.dtype} of shape {list(value.shape)}"
            )
        if not np.isfinite(value).all():
            raise BundleError(f"heads: {name!r} holds values that are not finite")
    return dict(state)


def _task(section: Section) -> Task:
    task = Task(
        name=section.text("name"),
        kind=section.choice("kind", TaskKind),
        classes=section.texts("classes"),
        positive=section.text_or_none("positive"),
        threshold=section.number_or_none("threshold"),
        temperature=section.number("temperature"),
    )
    section.close()
    return task
