"""A person's word that no text is burned into an image, and what was taken on it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.intake.quarantine import QuarantinedItem
from registry import ledger
from registry.identities import Identity
from registry.ledger import LedgerEntry

RELEASED = "quarantine.released"


def record_release(
    session: Session, item: QuarantinedItem, *, statement: str, by: Identity, at: datetime
) -> None:
    """Write the statement into the ledger."""
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind=RELEASED,
        subject=item.id,
        facts={
            "site": item.site,
            "reason": item.reason.value,
            "stated": "no text is burned in",
            "statement": statement,
        },
    )


def was_released(session: Session, item_id: str) -> bool:
    """Say whether somebody stated it of an item: of this very content from its site."""
    query = select(LedgerEntry.sequence).where(
        LedgerEntry.subject == item_id, LedgerEntry.kind == RELEASED
    )
    return session.scalars(query.limit(1)).first() is not None
