"""Whether the entry that recorded a row vouches for it as it stands: cheap, for one row at once.

Verification looks at everything and at the chain itself; this is for a decision that rests on a
few rows, which somebody may have written by SQL alone.
"""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.database import Base
from registry.ledger.record import (
    Form,
    LedgerEntry,
    row_name,
    sealed_columns,
    values_digest,
)


def vouching_entry(session: Session, row: Base, *, kind: str, subject: str) -> int | None:
    """Return the sequence of the newest entry of a kind about a subject that sealed a row.

    None where none did, or it sealed other values than stand there now.
    """
    name = row_name(row)
    found = session.execute(
        select(LedgerEntry.sequence, LedgerEntry.canonical)
        .where(LedgerEntry.subject == subject, LedgerEntry.kind == kind)
        .order_by(LedgerEntry.sequence.desc())
    )
    for sequence, canonical in found:
        body = json.loads(canonical)
        sealed = body.get("seals", {}).get(name)
        if sealed is None:
            continue
        table, form = type(row), Form(body.get("form", Form.FIRST.value))
        keys = sealed_columns(table)
        values = [getattr(row, key) for key in keys]
        return sequence if values_digest(table, keys, values, form) == sealed else None
    return None


def newest_time_since(session: Session, sequence: int) -> datetime | None:
    """Return the latest time of the entries behind one, by which a clock set back is seen."""
    return session.scalar(
        select(func.max(LedgerEntry.recorded_at)).where(LedgerEntry.sequence > sequence)
    )
