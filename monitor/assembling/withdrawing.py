"""Withdrawing scans: what is rejected or superseded counts nowhere from then on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.tables import RejectedInstanceRow, WithdrawnScanRow
from monitor.intake.intake import Rejecting
from monitor.tables import ScanRow
from registry import ledger
from registry.identities import SYSTEM
from registry.ledger import BatchSealed

Value = TypeVar("Value")

#: Identities that are looked up in one query.
_AT_ONCE = 500


class Why(StrEnum):
    """Why a scan counts no more."""

    SUPERSEDED = "superseded"  #: a later revision of the series or study took its place
    REJECTED = "rejected"  #: by a document
    EMPTIED = "emptied"  #: none of its instances is left


def withdraw(
    session: Session, scans: Iterable[int], *, why: Why, at: datetime, batch: int
) -> None:
    """Withdraw scans; the caller's ledger entry seals the batch."""
    session.add_all(
        WithdrawnScanRow(scan=scan, why=why.value, withdrawn_at=at, batch=batch)
        for scan in scans
    )


def withdrawn_among(session: Session, scans: Sequence[int]) -> set[int]:
    """Return those of some scans that count no more."""
    return {
        scan
        for part in _parts(scans)
        for scan in session.scalars(
            select(WithdrawnScanRow.scan).where(WithdrawnScanRow.scan.in_(part))
        )
    }


def follow(session: Session, document: Rejecting, *, at: datetime) -> bool:
    """Put a document's rejections into force; return False if all of them were.

    An instance that has not come yet is withdrawn as soon as it does. Of two
    documents that reject one instance the first gives the reason.
    """
    known = set()
    stored: dict[str, int] = {}
    for part in _parts(document.instances):
        known |= set(
            session.scalars(
                select(RejectedInstanceRow.instance).where(
                    RejectedInstanceRow.site == document.site,
                    RejectedInstanceRow.instance.in_(part),
                )
            )
        )
        rows = session.execute(
            select(ScanRow.instance, ScanRow.id).where(
                ScanRow.site == document.site, ScanRow.instance.in_(part)
            )
        )
        stored |= {row.instance: row.id for row in rows}
    fresh = [instance for instance in document.instances if instance not in known]
    if not fresh:
        return False
    batch = ledger.next_batch(session, RejectedInstanceRow)
    session.add_all(
        RejectedInstanceRow(
            site=document.site,
            instance=instance,
            reason=document.reason.value,
            rejected_at=at,
            batch=batch,
        )
        for instance in fresh
    )
    batches: list[tuple[type[BatchSealed], int]] = [(RejectedInstanceRow, batch)]
    scans = [stored[instance] for instance in fresh if instance in stored]
    if scans:
        withdrawn = ledger.next_batch(session, WithdrawnScanRow)
        withdraw(session, scans, why=Why.REJECTED, at=at, batch=withdrawn)
        batches.append((WithdrawnScanRow, withdrawn))
    ledger.append(
        session,
        at=at,
        actor=SYSTEM.name,
        kind="instances.rejected",
        subject=document.site,
        facts={
            "reason": document.reason.value,
            "instances": len(fresh),
            "scans": len(scans),
        },
        batches=batches,
    )
    return True


def withdraw_rejected(
    session: Session, rows: Sequence[ScanRow], *, at: datetime
) -> list[tuple[type[BatchSealed], int]]:
    """Withdraw those of new scans that a document rejected before they came.

    Returns the batches that the caller's ledger entry is to seal.
    """
    by_identity = {(row.site, row.instance): row.id for row in rows}
    rejected: list[int] = []
    for part in _parts([row.instance for row in rows]):
        found = session.execute(
            select(RejectedInstanceRow.site, RejectedInstanceRow.instance).where(
                RejectedInstanceRow.instance.in_(part)
            )
        )
        rejected += [
            by_identity[site, instance]
            for site, instance in found
            if (site, instance) in by_identity
        ]
    if not rejected:
        return []
    batch = ledger.next_batch(session, WithdrawnScanRow)
    withdraw(session, rejected, why=Why.REJECTED, at=at, batch=batch)
    return [(WithdrawnScanRow, batch)]


def _parts(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
