"""A reference of a monitor as a row alone: for what asks when it was accepted, and of what."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from monitor.tables import DatasetRow, ReferenceRow
from registry import ledger
from registry.versions import VersionRow


def reference_row(
    session: Session, monitor: str, version: VersionRow, *, accepted_at: datetime
) -> ReferenceRow:
    """Store a deciding reference without a profile."""
    dataset = DatasetRow(
        digest="0" * 64,
        purpose="reference",
        description="test",
        scans=0,
        patients=0,
        frozen_at=accepted_at,
    )
    session.add(dataset)
    session.flush()
    row = ReferenceRow(
        monitor=monitor,
        encoder="monitoring",
        version=version.id,
        space=version.space,
        dataset=dataset.id,
        profile_digest="0" * 64,
        accepted_at=accepted_at,
        decides=True,
        trend=True,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=accepted_at,
        actor="test",
        kind="reference.accepted",
        subject=monitor,
        facts={},
        seals=[dataset, row],
    )
    return row
