"""Labels: delayed ground truth, with provenance, from CSV.

Whether an AI influenced a label is derived here, never claimed by the file:
a label is free of influence only if its reader signed before the AI's result
existed. An unknown time counts as influenced.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.assembling.tables import ScanMemberRow
from monitor.tables import LabelRow, ResultRow, ScanRow
from registry import ledger
from registry.errors import LabelError

Key = TypeVar("Key", int, str)
#: Values that one statement looks up; databases limit its parameters.
PARAMETERS = 500
COLUMNS = ("instance", "task", "value", "provenance", "reader", "signed_at")


class Provenance(StrEnum):
    """Where a label's truth comes from."""

    READER = "reader"
    ADJUDICATED = "adjudicated"
    REPORT = "report"
    PATHOLOGY = "pathology"
    DATASET = "dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One label as it was read, its instance already a pseudonym."""

    line: int
    instance: str
    task: str
    value: int
    provenance: Provenance
    reader: str
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelImport:
    """What an import did."""

    added: int
    #: the same label again
    known: int
    ai_influenced: int
    #: ids of the scans that got a label
    scans: tuple[int, ...]


def read_csv(path: Path, *, pseudonym: Callable[[str], str]) -> list[Label]:
    """Read labels; the file's SOP Instance UIDs become pseudonyms at once.

    Raises
    ------
    LabelError
        Naming the file, the line and the column. Nothing is taken from a file
        with an error in it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise LabelError(f"{path.name} lacks the column {', '.join(missing)}")
            return [_label(row, path.name, number, pseudonym) for number, row in _lines(reader)]
    except UnicodeDecodeError as error:
        raise LabelError(f"{path.name} is not UTF-8 text") from error
    except OSError as error:
        raise LabelError(f"{path.name} cannot be read: {error.strerror}") from error


def _lines(reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for row in reader:
        yield reader.line_num, {name: (row.get(name) or "").strip() for name in COLUMNS}


def _label(row: dict[str, str], file: str, line: int, pseudonym: Callable[[str], str]) -> Label:
    def wrong(column: str, wanted: str) -> LabelError:
        return LabelError(f"{file}:{line}: {column} must be {wanted}")

    if not row["instance"]:
        raise wrong("instance", "a SOP Instance UID")
    if not row["task"]:
        raise wrong("task", "a task's name")
    if row["value"] not in {"0", "1"}:
        raise wrong("value", "0 or 1")
    if row["provenance"] not in set(Provenance):
        raise wrong("provenance", " or ".join(Provenance))
    try:
        signed_at = datetime.fromisoformat(row["signed_at"])
    except ValueError as error:
        raise wrong("signed_at", "an ISO 8601 time") from error
    if signed_at.utcoffset() is None:
        raise wrong("signed_at", "a time with its zone")
    return Label(
        line=line,
        instance=pseudonym(row["instance"]),
        task=row["task"],
        value=int(row["value"]),
        provenance=Provenance(row["provenance"]),
        reader=row["reader"],
        signed_at=signed_at,
    )


def attach(
    session: Session, labels: Sequence[Label], *, site: str, actor: str, at: datetime
) -> LabelImport:
    """Attach labels to their scans; a different value is a correction and a new row.

    Raises
    ------
    LabelError
        If a scan is unknown; nothing is then attached.
    """
    scans = _scans(session, site, [label.instance for label in labels])
    unknown = [label.line for label in labels if label.instance not in scans]
    if unknown:
        lines = ", ".join(map(str, unknown[:5]))
        raise LabelError(
            f"{len(unknown)} labels name scans that site {site} never sent (lines {lines}"
            f"{', …' if len(unknown) > 5 else ''}): nothing was taken; add the scans first"
        )
    newest = latest(session, [scans[label.instance].id for label in labels])
    first_result = _first_results(session, [scan.id for scan in scans.values()])
    added: list[LabelRow] = []
    known = 0
    for label in labels:
        scan = scans[label.instance].id
        before = newest.get((scan, label.task))
        if before is not None and (before.value, before.signed_at) == (
            label.value,
            label.signed_at,
        ):
            known += 1
            continue
        result_at = first_result.get((scan, label.task))
        row = LabelRow(
            scan=scan,
            task=label.task,
            value=label.value,
            provenance=label.provenance.value,
            reader=label.reader,
            signed_at=label.signed_at,
            ai_influenced=result_at is not None and result_at <= label.signed_at,
            arrived_at=at,
        )
        session.add(row)
        added.append(row)
    influenced = sum(row.ai_influenced for row in added)
    if added:
        ledger.append(
            session,
            at=at,
            actor=actor,
            kind="labels.attached",
            subject=site,
            facts={"labels": len(added), "ai_influenced": influenced},
            seals=added,
        )
    return LabelImport(
        added=len(added),
        known=known,
        ai_influenced=influenced,
        scans=tuple(row.scan for row in added),
    )


def latest(session: Session, scans: Sequence[int]) -> dict[tuple[int, str], LabelRow]:
    """Return each scan's newest label by task.

    A label names an instance. It holds for the series or study that the
    instance is part of, too, whatever revision that is.
    """
    found: dict[tuple[int, str], LabelRow] = {}
    for part in _parts(scans):
        own = session.execute(select(LabelRow, LabelRow.scan).where(LabelRow.scan.in_(part)))
        of_members = session.execute(
            select(LabelRow, ScanMemberRow.scan)
            .join(ScanMemberRow, ScanMemberRow.member == LabelRow.scan)
            .where(ScanMemberRow.scan.in_(part))
        )
        for row, scan in sorted((*own, *of_members), key=lambda pair: pair[0].id):
            found[scan, row.task] = row
    return found


def _scans(session: Session, site: str, instances: Sequence[str]) -> dict[str, ScanRow]:
    return {
        row.instance: row
        for part in _parts(instances)
        for row in session.scalars(
            select(ScanRow).where(ScanRow.site == site, ScanRow.instance.in_(part))
        )
    }


def _parts(values: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Yield parts small enough for one statement's parameters."""
    for start in range(0, len(values), PARAMETERS):
        yield values[start : start + PARAMETERS]


def _first_results(session: Session, scans: Sequence[int]) -> dict[tuple[int, str], datetime]:
    """Return when each scan's first delivered result existed, by task.

    A result that was withheld, or ran in the background, influenced nobody.
    """
    found: dict[tuple[int, str], datetime] = {}
    for part in _parts(scans):
        own = session.execute(
            select(ResultRow.scan, ResultRow.task, func.min(ResultRow.created_at))
            .where(ResultRow.delivery == "delivered", ResultRow.scan.in_(part))
            .group_by(ResultRow.scan, ResultRow.task)
        )
        # A reader of an instance has seen what was said of its series.
        of_whole = session.execute(
            select(ScanMemberRow.member, ResultRow.task, func.min(ResultRow.created_at))
            .join(ScanMemberRow, ScanMemberRow.scan == ResultRow.scan)
            .where(ResultRow.delivery == "delivered", ScanMemberRow.member.in_(part))
            .group_by(ScanMemberRow.member, ResultRow.task)
        )
        # The aggregate keeps the column's type, so its time carries UTC.
        for scan, task, moment in (*own, *of_whole):
            found[scan, task] = min(moment, found.get((scan, task), moment))
    return found
