"""What a stored series or study is made of, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.tables import AssembledScanRow, ScanMemberRow, WithdrawnScanRow
from monitor.imaging.frames import middle_frame
from monitor.tables import ScanRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A series or a study as it was taken to be whole."""

    revision: int
    instances: int
    expected: int | None
    settled_by: str
    incomplete: bool


def composition_of(session: Session, scan: int) -> Composition | None:
    """Return what a scan is made of, or None for an instance."""
    row = session.get(AssembledScanRow, scan)
    if row is None:
        return None
    return Composition(
        revision=row.revision,
        instances=row.instances,
        expected=row.expected,
        settled_by=row.settled_by,
        incomplete=row.incomplete,
    )


def withdrawn_because(session: Session, scan: int) -> str | None:
    """Return why a scan counts no more, or None where it does."""
    row = session.get(WithdrawnScanRow, scan)
    return None if row is None else row.why


def pictured(session: Session, row: ScanRow) -> ScanRow:
    """Return the instance that stands for a scan in a picture: the one in the middle of it."""
    members = session.scalars(
        select(ScanMemberRow.member)
        .where(ScanMemberRow.scan == row.id)
        .order_by(ScanMemberRow.position)
    ).all()
    if not members:
        return row
    return session.get_one(ScanRow, members[middle_frame(len(members))])
