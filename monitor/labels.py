"""Labels: delayed ground truth, with provenance; what is attached stays, what is true is decided.

A label is never changed: a correction is a new one, signed later. Several readers may label one
scan, and each label is kept; what is true by all of them is decided when it is asked for
(`monitor.labelling.truth`). Whether an AI influenced a label is derived when it is attached
(`monitor.labelling.influence`), never claimed by whoever brings it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from monitor.assembling.tables import ScanMemberRow
from monitor.labelling.influence import (
    PARAMETERS,
    reasons_for,
    require_site,
)
from monitor.labelling.provenance import Provenance
from monitor.labelling.statements import ScanFinder, Statement, first_of
from monitor.labelling.truth import Dispute, Truth, decide
from monitor.labelling.values import LabelValue
from monitor.tables import LabelRow, ScanRow
from registry import ledger
from registry.canonical import Json
from registry.errors import LabelError

__all__ = ["PARAMETERS", "Label", "LabelImport", "Provenance", "Truth", "attach", "latest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One label of one instance, that already a pseudonym."""

    line: int
    instance: str
    task: str
    value: int
    provenance: Provenance
    reader: str
    signed_at: datetime | None
    #: of a multi-label task: the classes that hold, sorted
    classes: tuple[str, ...] | None = None

    def as_statement(self) -> Statement:
        return Statement(
            place=f"line {self.line}",
            instances=(self.instance,),
            task=self.task,
            value=LabelValue(value=self.value, classes=self.classes),
            provenance=self.provenance,
            reader=self.reader,
            signed_at=self.signed_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelImport:
    """What an import did."""

    added: int
    #: the same label again
    known: int
    ai_influenced: int
    #: of the scans that got a label, those that are now disputed
    disputed: int
    #: ids of the scans that got a label
    scans: tuple[int, ...]
    #: statements of the file whose concepts no mapping names
    passed_over: int = 0


def attach(
    session: Session,
    labels: Sequence[Label | Statement],
    *,
    site: str,
    actor: str,
    at: datetime,
    source: str = "labels",
    facts: Mapping[str, Json] | None = None,
    passed_over: int = 0,
) -> LabelImport:
    """Attach labels to their scans, all of them or none.

    Parameters
    ----------
    source : what they came in, for errors
    facts : of the ledger's entry, besides counts
    passed_over : statements of the same file whose concepts no mapping names

    Raises
    ------
    LabelError
        If the site or a scan is unknown, a label was signed in the future or before its scan
        was made, or it contradicts what its reader signed before.
    """
    statements = [one.as_statement() if isinstance(one, Label) else one for one in labels]
    require_site(session, site, source=source)
    finder = ScanFinder(session, site, statements, source=source)
    finder.require_all(statements)
    _refuse_future(statements, source, at)
    finder.require_made(statements)
    wanted = [(scan, one) for one in statements for scan in finder.scans_of(one)]
    kept = _kept(session, [scan for scan, _ in wanted])
    new: list[tuple[int, Statement]] = []
    known = 0
    for scan, one in wanted:
        before = kept[scan, one.task]
        said = _Said.of(one)
        if said in before:
            known += 1
            continue
        if any(said.contradicts(other) for other in before):
            raise LabelError(
                f"{source}: {one.place}: the same reader has said something else of this scan and "
                f"task {one.task}, signed at the same time: nothing was taken; a correction is "
                "signed later, and says when",
                problem="contradiction",
                place=one.place,
            )
        before.append(said)
        new.append((scan, one))
    added = _add(session, new, site=site, at=at)
    influenced = sum(row.ai_influenced for row in added)
    scans = tuple(dict.fromkeys(row.scan for row in added))
    disputed = _disputed(session, {(row.scan, row.task) for row in added})
    if added:
        ledger.append(
            session,
            at=at,
            actor=actor,
            kind="labels.attached",
            subject=site,
            facts={
                "labels": len(added),
                "ai_influenced": influenced,
                "disputed": disputed,
                **(facts or {}),
            },
            seals=added,
        )
    return LabelImport(
        added=len(added),
        known=known,
        ai_influenced=influenced,
        disputed=disputed,
        scans=scans,
        passed_over=passed_over,
    )


def latest(session: Session, scans: Sequence[int]) -> dict[tuple[int, str], Truth]:
    """Return what is true of each scan by task; a disputed one has no truth.

    A label names an instance. It holds for the series or study that the
    instance is part of, too, whatever revision that is.
    """
    found: dict[tuple[int, str], Truth] = {}
    for key, rows in labels_of(session, scans).items():
        truth = decide(rows)
        if isinstance(truth, Truth):
            found[key] = truth
    return found


def labels_of(session: Session, scans: Sequence[int]) -> dict[tuple[int, str], list[LabelRow]]:
    """Return every label of each scan by task, in the order in which they came."""
    found: dict[tuple[int, str], list[LabelRow]] = {}
    for start in range(0, len(scans), PARAMETERS):
        part = scans[start : start + PARAMETERS]
        own = session.execute(select(LabelRow, LabelRow.scan).where(LabelRow.scan.in_(part)))
        of_members = session.execute(
            select(LabelRow, ScanMemberRow.scan)
            .join(ScanMemberRow, ScanMemberRow.member == LabelRow.scan)
            .where(ScanMemberRow.scan.in_(part))
        )
        for row, scan in sorted((*own, *of_members), key=lambda pair: pair[0].id):
            found.setdefault((scan, row.task), []).append(row)
    return found


def having_label(task: str) -> ColumnElement[bool]:
    """Return the condition that a scan, or an instance of it, has a label of a task."""
    own = exists().where(LabelRow.scan == ScanRow.id, LabelRow.task == task)
    of_member = exists().where(
        ScanMemberRow.scan == ScanRow.id,
        LabelRow.scan == ScanMemberRow.member,
        LabelRow.task == task,
    )
    return or_(own, of_member)


def true_since(session: Session, scans: Sequence[int], *, task: str) -> dict[int, datetime]:
    """Return when the first truth of each scan was known; what came later changes no order."""
    known: dict[int, datetime] = {}
    for (scan, of_task), rows in labels_of(session, scans).items():
        if of_task != task:
            continue
        for moment in sorted({row.arrived_at for row in rows}):
            by_then = [row for row in rows if row.arrived_at <= moment]
            if isinstance(decide(by_then), Truth):
                known[scan] = moment
                break
    return known


@dataclass(frozen=True, slots=True)
class _Said:
    """A label as others are compared with it."""

    reader: str
    provenance: str
    signed_at: datetime | None
    value: int
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, one: Statement) -> _Said:
        value = one.value
        return cls(one.reader, one.provenance.value, one.signed_at, value.value, value.classes)

    @classmethod
    def of_row(cls, row: LabelRow) -> _Said:
        classes = None if row.classes is None else tuple(row.classes)
        return cls(row.reader, row.provenance, row.signed_at, row.value, classes)

    def contradicts(self, other: _Said) -> bool:
        """Say whether its reader said something else, and not before it."""
        same_reader = self.reader == other.reader and (
            bool(self.reader) or self.provenance == other.provenance
        )
        says_otherwise = (self.value, self.classes) != (other.value, other.classes)
        # Without a time nothing says that it is the later one.
        no_later = self.signed_at is None or self.signed_at == other.signed_at
        return same_reader and says_otherwise and no_later


def _refuse_future(statements: Iterable[Statement], source: str, at: datetime) -> None:
    early = [
        one.place for one in statements if one.signed_at is not None and one.signed_at > at
    ]
    if early:
        raise LabelError(
            f"{source}: {first_of(early)}: signed_at lies in the future, now is "
            f"{at.isoformat(timespec='seconds')}: nothing was taken; check the clock and the time "
            "zone of whoever wrote it",
            problem="future",
            place=early[0],
        )


def _kept(session: Session, scans: Sequence[int]) -> dict[tuple[int, str], list[_Said]]:
    kept: dict[tuple[int, str], list[_Said]] = defaultdict(list)
    wanted = sorted(set(scans))
    for start in range(0, len(wanted), PARAMETERS):
        part = wanted[start : start + PARAMETERS]
        for row in session.scalars(select(LabelRow).where(LabelRow.scan.in_(part))):
            kept[row.scan, row.task].append(_Said.of_row(row))
    return kept


def _add(
    session: Session, new: Sequence[tuple[int, Statement]], *, site: str, at: datetime
) -> list[LabelRow]:
    reasons = reasons_for(
        session, [(scan, one.task, one.signed_at, one.assisted) for scan, one in new], site=site
    )
    added = [
        LabelRow(
            scan=scan,
            task=one.task,
            value=one.value.value,
            classes=None if one.value.classes is None else list(one.value.classes),
            provenance=one.provenance.value,
            reader=one.reader,
            signed_at=one.signed_at,
            ai_influenced=reason.influenced,
            influence_reason=reason.value,
            arrived_at=at,
        )
        for (scan, one), reason in zip(new, reasons, strict=True)
    ]
    session.add_all(added)
    session.flush()
    return added


def _disputed(session: Session, pairs: set[tuple[int, str]]) -> int:
    of_scans = labels_of(session, sorted({scan for scan, _ in pairs}))
    return sum(isinstance(decide(of_scans[pair]), Dispute) for pair in pairs)
