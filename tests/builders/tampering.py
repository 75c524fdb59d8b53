"""What somebody with every right on the database can do to it, by SQL alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session

from registry.canonical import jcs_bytes
from registry.database import Database
from registry.ledger import GENESIS, append_only, chain


@contextmanager
def unguarded(database: Database) -> Iterator[Session]:
    """Open a transaction in which no trigger refuses anything; they are there again after it."""
    with database.transaction() as session:
        tables = append_only.guarded_tables()
        append_only.unguard(session.connection(), tables)
        yield session
        session.flush()
        for table, kind in tables.items():
            append_only.guard(session.connection(), [table], kind)


def rewrite(session: Session, sequence: int, **facts: object) -> None:
    """Change an entry's facts, and make the whole chain behind it agree with that."""
    rows = session.execute(
        text("SELECT sequence, canonical, digest FROM ledger ORDER BY sequence")
    )
    previous = GENESIS
    for number, canonical, digest in rows.all():
        content, kept = bytes(canonical), str(digest)
        if number == sequence:
            body = json.loads(content)
            body["facts"] |= facts
            content = jcs_bytes(body)
        if number >= sequence:
            kept = chain(previous, content)
            session.execute(
                text(
                    "UPDATE ledger SET canonical = :content, digest = :digest "
                    "WHERE sequence = :number"
                ),
                {"content": content, "digest": kept, "number": number},
            )
        previous = kept
    session.execute(text("UPDATE ledger_head SET digest = :digest"), {"digest": previous})


def truncate(session: Session, last: int) -> None:
    """Cut the tail off behind entry `last`, and set the head back to it."""
    session.execute(text("DELETE FROM ledger WHERE sequence > :last"), {"last": last})
    session.execute(
        text(
            "UPDATE ledger_head SET sequence = :last, "
            "digest = (SELECT digest FROM ledger WHERE sequence = :last)"
        ),
        {"last": last},
    )
