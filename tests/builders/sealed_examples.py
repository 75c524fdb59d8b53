"""One row of every sealed table, whatever its columns are, sealed as the ledger seals it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, LargeBinary, Table
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

import api.assembly  # noqa: F401 - every table must be declared
from registry import ledger
from registry.database import Base, UtcDateTime
from registry.identities import IdentityRow


def value_of(column: Column[Any], at: datetime) -> Any:
    """Return a value that a column can hold; references name the one row of their table."""
    if isinstance(column.type, DateTime | UtcDateTime):
        return at
    return next(
        (value for kind, value in _VALUES if isinstance(column.type, kind)),
        "text",
    )


#: A Boolean is no Integer to SQLAlchemy.
_VALUES = (
    (Boolean, True),
    (Integer, 1),
    (Float, 0.5),
    (JSON, {"a": [1.0, 0.25]}),
    (LargeBinary, b"bytes"),
)


def another(value: Any) -> Any:
    """Return a value like `value`, and not it."""
    if isinstance(value, bool | dict):
        return not value if isinstance(value, bool) else {"a": [1.0, 0.5]}
    if isinstance(value, datetime):
        return value + timedelta(seconds=1)
    return value + value


def row_of(table: Table, at: datetime) -> dict[str, Any]:
    return {column.name: value_of(column, at) for column in table.columns}


def sealed_by_table() -> dict[str, type[Base]]:
    """Return every sealed table by its name."""
    return {table.__tablename__: table for table in ledger.sealed_tables()}


def without_foreign_keys(session: Session) -> None:
    """Let this transaction, which must be rolled back, break references."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sql("SET LOCAL session_replication_role = replica"))
    else:
        session.execute(sql("PRAGMA defer_foreign_keys = ON"))


def fill(session: Session, at: datetime) -> dict[str, int]:
    """Write one row of every sealed table, and what it refers to; returns who seals each."""
    sealed = sealed_by_table()
    wanted = set(sealed)
    tables = Base.metadata.sorted_tables
    for table in reversed(tables):
        if table.name in wanted:
            wanted |= {key.column.table.name for key in table.foreign_keys}
    for table in tables:
        if table.name in wanted:
            session.execute(table.insert(), row_of(table, at))
    found = {}
    for name, table in sealed.items():
        batched = issubclass(table, ledger.BatchSealed)
        entry = ledger.append(
            session,
            at=at,
            actor="test",
            kind="example.made",
            subject=name,
            facts={},
            seals=[] if batched else session.query(table).all(),
            batches=[(table, 1)] if batched else [],
        )
        found[name] = entry.sequence
    return found


def add_identity(session: Session, name: str, at: datetime) -> None:
    """Write an identity and the entry that seals it."""
    row = IdentityRow(name=name, os_user=None, roles=["viewer"], created_at=at)
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor="test",
        kind="identity.bound",
        subject=name,
        facts={"name": name},
        seals=[row],
    )
