"""Coded statements of a report, turned into values by the mapping in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitor.labelling.mapping import PRESENT, MappedConcept, MappingInForce
from monitor.labelling.provenance import Provenance
from monitor.labelling.statements import Reading, Statement
from registry.errors import LabelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """One concept with its value, as a report states it."""

    #: where in the file, in words without anything of its content
    place: str
    #: all the codes that say the same, as a mapping writes them
    concepts: tuple[str, ...] = field(repr=False)
    values: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Which scans a report is about, and who signed it when."""

    instances: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    provenance: Provenance
    reader: str
    signed_at: datetime | None
    assisted: bool = False


class CodeReader:
    """Turns what the reports of one file state into statements."""

    def __init__(self, mapping: MappingInForce, *, file: str) -> None:
        self._mapping, self._file = mapping, file
        self._statements: list[Statement] = []
        self._passed_over = 0

    def mapped(self, stated: Iterable[Coded]) -> list[Coded]:
        """Return the statements of concepts that the mapping names; the others are counted."""
        found: list[Coded] = []
        for one in stated:
            if any(self._mapping.concepts(code) for code in one.concepts):
                found.append(one)
            else:
                self._passed_over += 1
        return found

    def add(self, stated: Iterable[Coded], about: About, *, place: str) -> None:
        """Take what one report states of the same scans, in concepts that the mapping names.

        Parameters
        ----------
        place : of the report in the file

        Raises
        ------
        LabelError
            If it states a value that the mapping does not name, or leaves a class unsaid that it
            must not.
        """
        sets: dict[str, dict[str, tuple[bool, str]]] = defaultdict(dict)
        for one in stated:
            asked = [found for code in one.concepts for found in self._mapping.concepts(code)]
            for concept in _once(asked):
                meaning = self._meaning(concept, one)
                if concept.about is None:
                    self._state(concept.task, meaning, about, place=one.place)
                    continue
                before = sets[concept.task].get(concept.about)
                holds = meaning == PRESENT
                if before is not None and before[0] != holds:
                    raise LabelError(
                        f"{self._file}: {one.place}: says otherwise of {concept.about} than "
                        f"{before[1]} does, of the same scans: nothing was taken",
                        problem="contradiction",
                        place=one.place,
                    )
                sets[concept.task][concept.about] = (holds, one.place)
        for task, said in sets.items():
            self._state_set(task, said, about, place=place)

    def reading(self) -> Reading:
        """Return what was read.

        Raises
        ------
        LabelError
            If the mapping names nothing of it.
        """
        if not self._statements:
            asked = sorted({one.concept for one in self._mapping.specification.concepts})
            raise LabelError(
                f"{self._file}: none of its {self._passed_over} coded statements is of a concept "
                f"that the mapping in force names ({', '.join(asked) or 'it names none'}): add it "
                "there, and `driftward label mapping apply`",
                problem="not_mapped",
            )
        return Reading(statements=tuple(self._statements), passed_over=self._passed_over)

    def _meaning(self, concept: MappedConcept, one: Coded) -> str:
        meanings = {concept.values[code] for code in one.values if code in concept.values}
        if len(meanings) != 1:
            raise LabelError(
                f"{self._file}: {one.place}: the value of {concept.concept} is none that the "
                f"mapping names for task {concept.task} ({', '.join(concept.values)}), or several "
                "of them: add it there, or correct the report",
                problem="impossible_value",
                place=one.place,
            )
        return meanings.pop()

    def _state_set(
        self, task: str, said: dict[str, tuple[bool, str]], about: About, *, place: str
    ) -> None:
        mapped = self._mapping.specification.tasks[task]
        unsaid = [name for name in mapped.classes if name not in said]
        if unsaid and mapped.unsaid is None:
            raise LabelError(
                f"{self._file}: {place}: nothing is said of {', '.join(unsaid)}: a label of task "
                f"{task} says of each class whether it holds; where silence means that it does "
                "not, write `unsaid: absent` into the mapping",
                problem="impossible_value",
                place=place,
            )
        holding = [name for name, (holds, _) in said.items() if holds]
        self._state(task, holding, about, place=place)

    def _state(self, task: str, said: str | Sequence[str], about: About, *, place: str) -> None:
        possible = self._mapping.values_of(task)
        value = None if possible is None else possible.read(said)
        if value is None:
            raise LabelError(
                f"{self._file}: {place}: task {task} has no such value",
                problem="impossible_value",
            )
        self._statements.append(
            Statement(
                place=place,
                instances=about.instances,
                studies=about.studies,
                task=task,
                value=value,
                provenance=about.provenance,
                reader=about.reader,
                signed_at=about.signed_at,
                assisted=about.assisted,
            )
        )


def _once(concepts: Iterable[MappedConcept]) -> list[MappedConcept]:
    found: list[MappedConcept] = []
    for concept in concepts:
        if concept not in found:
            found.append(concept)
    return found
