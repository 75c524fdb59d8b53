"""Datasets: frozen sets of scans, each for one purpose, named by a digest of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from monitor.assembling.withdrawing import withdrawn_among
from monitor.kept_answers import once
from monitor.tables import DatasetMember, DatasetRow, ScanRow
from registry import ledger
from registry.canonical import Json, digest_of
from registry.errors import InsufficientDataError


class Purpose(StrEnum):
    """What a dataset is for; one scan never serves both sides of a comparison."""

    TRAINING = "training"
    SELECTION = "selection"
    LOCKED_REFERENCE = "locked reference"
    LOCKED_DRIFTED = "locked drifted"
    REFERENCE = "reference"
    #: scans to adapt to, whose labels are not known, or not looked at
    UNLABELLED = "unlabelled"


def freeze(
    session: Session,
    scans: Sequence[ScanRow],
    *,
    purpose: Purpose,
    description: str,
    actor: str,
    at: datetime,
) -> DatasetRow:
    """Freeze scans as a dataset; the digest covers which scans and their pixels.

    Scans that were rejected or superseded by now are left out.

    Raises
    ------
    InsufficientDataError
        If there are none.
    """
    scans = _counting(session, scans)
    if not scans:
        raise InsufficientDataError(what=f"dataset for {purpose.value}", needed=1, got=0)
    digest = _digest(scans)
    row = DatasetRow(
        digest=digest,
        purpose=purpose.value,
        description=description,
        scans=len(scans),
        patients=len({scan.person for scan in scans}),
        frozen_at=at,
    )
    session.add(row)
    session.flush()
    session.execute(
        insert(DatasetMember),
        [{"dataset": row.id, "scan": scan.id, "batch": row.id} for scan in scans],
    )
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="dataset.frozen",
        subject=f"dataset {row.id}",
        facts={
            "digest": digest,
            "purpose": row.purpose,
            "scans": row.scans,
            "patients": row.patients,
        },
        seals=[row],
        batches=[(DatasetMember, row.id)],
    )
    return row


def frozen_before(
    session: Session, scans: Sequence[ScanRow], *, purpose: Purpose, description: str
) -> DatasetRow | None:
    """Return the dataset of these very scans that was frozen for this before, if one was."""
    return session.scalars(
        select(DatasetRow).where(
            DatasetRow.digest == _digest(_counting(session, scans)),
            DatasetRow.purpose == purpose.value,
            DatasetRow.description == description,
        )
    ).first()


def _counting(session: Session, scans: Sequence[ScanRow]) -> list[ScanRow]:
    """Leave out what was rejected or superseded by now."""
    gone = withdrawn_among(session, [scan.id for scan in scans])
    return [scan for scan in scans if scan.id not in gone]


def _digest(scans: Sequence[ScanRow]) -> str:
    content: list[Json] = [
        *sorted(f"{scan.site}/{scan.instance}/{scan.vault_digest}" for scan in scans)
    ]
    return digest_of(content)


def members(session: Session, dataset: int) -> list[ScanRow]:
    """Return a dataset's scans, in the order of their arrival."""
    return list(once(session, ("members", dataset), lambda: _members(session, dataset)))


def member_ids(session: Session, dataset: int) -> frozenset[int]:
    """Return the ids of a dataset's scans."""
    query = select(DatasetMember.scan).where(DatasetMember.dataset == dataset)
    return once(
        session, ("member ids", dataset), lambda: frozenset(session.scalars(query).all())
    )


def _members(session: Session, dataset: int) -> tuple[ScanRow, ...]:
    return tuple(
        session.scalars(
            select(ScanRow)
            .join(DatasetMember, DatasetMember.scan == ScanRow.id)
            .where(DatasetMember.dataset == dataset)
            .order_by(ScanRow.id)
        )
    )


def patients_in(session: Session, digests: Iterable[str]) -> set[str]:
    """Return the patients of every dataset of these digests."""
    return set(
        session.scalars(
            select(ScanRow.person)
            .join(DatasetMember, DatasetMember.scan == ScanRow.id)
            .join(DatasetRow, DatasetRow.id == DatasetMember.dataset)
            .where(DatasetRow.digest.in_(list(digests)))
            .distinct()
        )
    )


def split_by_patient(
    scans: Iterable[ScanRow], shares: Mapping[Purpose, float], *, salt: str
) -> dict[Purpose, list[ScanRow]]:
    """Split scans so that no patient stands on two sides.

    A patient's side follows from a hash of pseudonym and salt alone, so it
    does not change when more scans arrive.

    Parameters
    ----------
    shares : fraction of patients for each purpose; they add up to 1
    salt : keeps the splits of different questions independent
    """
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"shares add up to {sum(shares.values())}, not 1")
    parts: dict[Purpose, list[ScanRow]] = {purpose: [] for purpose in shares}
    for scan in scans:
        hashed = hashlib.sha256(f"{salt}\0{scan.person}".encode()).digest()
        position, below = int.from_bytes(hashed[:8], "big") / 2**64, 0.0
        for purpose, share in shares.items():
            below += share
            if position < below:
                parts[purpose].append(scan)
                break
        else:
            parts[purpose].append(scan)  # the last share, short by rounding
    return parts
