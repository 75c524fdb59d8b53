"""Patient merges: two identifiers that name one patient, from when it is known on.

Rows keep the pseudonyms that they were stored with, since these are sealed.
Whatever counts, resamples or splits by patient reads `ScanRow.person`, which
follows the merges.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.tables import PatientMergeRow
from registry import ledger

#: Pseudonyms that resent instances may join under one patient. An identifier under which more
#: come is none of a patient: an anonymised copy, a phantom, an empty field filled in.
MOST_BY_RESEND = 4


class How(StrEnum):
    """How a merge became known."""

    RESENT = "resent"  #: one instance came under both identifiers
    STATED = "stated"  #: a person said so


def person_of(session: Session, site: str, patient: str) -> str:
    """Return the pseudonym of the patient whom a pseudonym names by all that is known."""
    row = _row(session, site, patient)
    return patient if row is None else row.patient


def merge(
    session: Session,
    *,
    site: str,
    merged: str,
    patient: str,
    how: How,
    reason: str = "",
    actor: str,
    at: datetime,
) -> bool:
    """Let one pseudonym name the patient of another; return False if nothing changes by it.

    Nothing changes where both name one patient already, or, of merges that
    are concluded from resent instances, where too many would meet.
    """
    before = person_of(session, site, merged)
    after = person_of(session, site, patient)
    if before == after:
        return False
    if how is How.RESENT and _joined(session, site, before, after) > MOST_BY_RESEND:
        return False
    rows = list(
        session.scalars(
            select(PatientMergeRow).where(
                PatientMergeRow.site == site, PatientMergeRow.patient == before
            )
        )
    )
    for row in rows:
        row.patient, row.merged_at = after, at
    rows.append(PatientMergeRow(site=site, merged=before, patient=after, merged_at=at))
    session.add(rows[-1])
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="patient.merged",
        subject=site,
        facts={"how": how.value, "pseudonyms": len(rows), "reason": reason},
        seals=rows,
    )
    return True


def _row(session: Session, site: str, patient: str) -> PatientMergeRow | None:
    return session.scalars(
        select(PatientMergeRow).where(
            PatientMergeRow.site == site, PatientMergeRow.merged == patient
        )
    ).first()


def _joined(session: Session, site: str, *persons: str) -> int:
    """Count the pseudonyms that would name one patient."""
    merged = session.scalar(
        select(func.count(PatientMergeRow.id)).where(
            PatientMergeRow.site == site, PatientMergeRow.patient.in_(persons)
        )
    )
    return (merged or 0) + len(persons)
