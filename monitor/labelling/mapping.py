"""What codes of reports mean: which task a concept asks about, and which value a code states.

A mapping is a YAML file with a version. It is applied once, and holds for every road by which
reports come, until the next one is applied; each import keeps its digest.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.labelling.tables import LabelMappingRow
from monitor.labelling.values import TaskValues, ValuesOf
from registry import ledger
from registry.canonical import digest_of
from registry.errors import ConflictError, LabelError
from registry.yaml_files import MisfitError, read_specification

#: Names by which FHIR calls what DICOM calls otherwise (PS3.16 table 8-1).
SCHEMES: Mapping[str, str] = MappingProxyType(
    {
        "http://snomed.info/sct": "SCT",
        "http://loinc.org": "LN",
        "http://dicom.nema.org/resources/ontology/DCM": "DCM",
        "http://www.radlex.org": "RADLEX",
        "http://radlex.org": "RADLEX",
        "http://hl7.org/fhir/sid/icd-10": "I10",
        "http://hl7.org/fhir/sid/icd-10-cm": "I10C",
        "http://www.nlm.nih.gov/research/umls": "UMLS",
    }
)
#: A finding that stands by itself: Finding (121071, DCM), and what a FHIR report concludes.
FINDING = "DCM|121071"
PRESENT, ABSENT = "present", "absent"
_CODE = re.compile(r"(?P<scheme>[^|\s]{1,128})\|(?P<code>[^|\s]{1,64})")


def code_of(scheme: str, code: str) -> str:
    """Return a code as a mapping writes it: `SCT|233604007`, by whichever name of its scheme."""
    return f"{SCHEMES.get(scheme.strip(), scheme.strip())}|{code.strip()}"


def _code(value: object) -> object:
    if not isinstance(value, str) or (found := _CODE.fullmatch(value.strip())) is None:
        raise ValueError("a code is written SCHEME|CODE, for instance SCT|233604007")
    return code_of(found["scheme"], found["code"])


def _said(value: object) -> object:
    # YAML reads true and false; FHIR's booleans are meant.
    if isinstance(value, bool):
        return str(value).lower()
    return value if value in {"true", "false"} else _code(value)


def _zone(value: object) -> object:
    try:
        zoneinfo.ZoneInfo(str(value))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone that is known here, as Europe/Berlin is") from None
    return value


Code = Annotated[str, BeforeValidator(_code)]
Said = Annotated[str, BeforeValidator(_said)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MappedTask(_Part):
    """A task, with the classes that a label of it can have."""

    kind: Literal["multi-class", "multi-label"] = "multi-class"
    #: in the order of the model's
    classes: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field()]
    #: of a multi-label task: what a report that says nothing of a class means
    unsaid: Literal["absent"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fewest = 2 if self.kind == "multi-class" else 1
        if len(self.classes) < fewest or len(set(self.classes)) < len(self.classes):
            raise MisfitError(f"{self.kind} takes {fewest} or more, each once", "classes")
        if self.unsaid is not None and self.kind == "multi-class":
            raise MisfitError("is for multi-label tasks", "unsaid")
        return self


class MappedConcept(_Part):
    """A concept that reports state, and what its values say of a task."""

    concept: Code
    task: str
    #: of a multi-label task: the class that it is about
    about: str | None = None
    #: code -> class; of a multi-label task "present" or "absent"
    values: Annotated[dict[Said, str], Field(min_length=1)]


class LabelMapping(_Part):
    """A mapping as it stands in its YAML file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    #: raised with every change
    version: Annotated[int, Field(ge=1, lt=2**31)]
    #: of times in reports that state none
    time_zone: Annotated[str, BeforeValidator(_zone)] | None = None
    tasks: Annotated[dict[str, MappedTask], Field(min_length=1)]
    concepts: Annotated[list[MappedConcept], Field()] = []

    @model_validator(mode="after")
    def _fits(self) -> Self:
        asked: set[tuple[str, str]] = set()
        for number, concept in enumerate(self.concepts):
            place = ("concepts", number)
            task = self.tasks.get(concept.task)
            if task is None:
                raise MisfitError("is none of `tasks`", *place, "task")
            multi_label = task.kind == "multi-label"
            if multi_label and concept.about not in task.classes:
                raise MisfitError(
                    f"name the class of {concept.task} that the concept is about: "
                    f"{', '.join(task.classes)}",
                    *place,
                    "about",
                )
            if not multi_label and concept.about is not None:
                raise MisfitError("is for multi-label tasks", *place, "about")
            possible = [PRESENT, ABSENT] if multi_label else task.classes
            for said, meaning in concept.values.items():
                if meaning not in possible:
                    raise MisfitError(
                        f"means one of {', '.join(possible)}", *place, "values", said
                    )
            question = (concept.concept, concept.about or concept.task)
            if question in asked:
                raise MisfitError("stands here twice for the same task", *place, "concept")
            asked.add(question)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingInForce:
    """A mapping, and the digest by which imports name it."""

    specification: LabelMapping
    digest: str
    applied_at: datetime

    def values_of(self, task: str) -> TaskValues | None:
        """Return what a task can have as its value, where the mapping says so."""
        mapped = self.specification.tasks.get(task)
        if mapped is None:
            return None
        return TaskValues(
            task=task, multi_label=mapped.kind == "multi-label", classes=tuple(mapped.classes)
        )

    def concepts(self, code: str) -> list[MappedConcept]:
        """Return what a concept asks about."""
        return [one for one in self.specification.concepts if one.concept == code]


def parse_mapping(text: str, *, source: str) -> LabelMapping:
    """Read a mapping.

    Raises
    ------
    LabelError
        Naming the file, the line and the key.
    """
    return read_specification(
        text,
        LabelMapping,
        source=source,
        what="what codes mean; see docs/labels.md",
        error=LabelError,
    )


def apply_mapping(
    session: Session,
    mapping: LabelMapping,
    *,
    values_of_champions: ValuesOf,
    actor: str,
    at: datetime,
) -> MappingInForce:
    """Put a mapping into force; the same again changes nothing.

    Raises
    ------
    LabelError
        If a champion has one of its tasks with other classes.
    ConflictError
        If it differs from the mapping in force and its version is not higher.
    """
    for name, task in mapping.tasks.items():
        has = values_of_champions(name)
        multi_label = task.kind == "multi-label"
        if has.classes and (has.classes, has.multi_label) != (tuple(task.classes), multi_label):
            kind = "multi-label" if has.multi_label else "multi-class"
            raise LabelError(
                f"task {name} of the champion is {kind} with the classes "
                f"{', '.join(has.classes)}, in this order: write them so",
                problem="impossible_value",
            )
    document = mapping.model_dump(mode="json")
    digest = digest_of(document)
    before = mapping_in_force(session)
    if before is not None:
        if before.digest == digest:
            return before
        same_name = before.specification.name == mapping.name
        if same_name and before.specification.version >= mapping.version:
            raise ConflictError(
                f"mapping {mapping.name} is in force in version "
                f"{before.specification.version}, and differs: raise `version` above that"
            )
    row = LabelMappingRow(
        name=mapping.name,
        version=mapping.version,
        digest=digest,
        specification=document,
        applied_at=at,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="label_mapping.applied",
        subject=f"{mapping.name} {mapping.version}",
        facts={"digest": digest, "specification": document},
        seals=[row],
    )
    return MappingInForce(specification=mapping, digest=digest, applied_at=at)


def mapping_in_force(session: Session) -> MappingInForce | None:
    """Return the mapping that was applied last, or None before the first."""
    row = session.scalars(
        select(LabelMappingRow).order_by(LabelMappingRow.id.desc()).limit(1)
    ).first()
    return None if row is None else _read(row)


def mappings_applied(session: Session) -> list[MappingInForce]:
    """Return every mapping that was applied, in that order: each held until the next."""
    return [
        _read(row)
        for row in session.scalars(select(LabelMappingRow).order_by(LabelMappingRow.id))
    ]


def _read(row: LabelMappingRow) -> MappingInForce:
    return MappingInForce(
        specification=LabelMapping.model_validate(row.specification),
        digest=row.digest,
        applied_at=row.applied_at,
    )
