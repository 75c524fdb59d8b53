"""Whatever is changed in a sealed table, by SQL alone, is found at the entry that vouched for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from databases import on_each_database
from sealed_examples import (
    another,
    fill,
    row_of,
    sealed_by_table,
    value_of,
    without_foreign_keys,
)
from sqlalchemy import Column, Executable, text
from sqlalchemy.orm import Session

from registry import ledger
from registry.database import Base, Database
from registry.ledger import append_only
from registry.ledger.record import sealed_columns

#: What an auditor asks for by name is among them.
ASKED_FOR = {"labels", "gate_outcomes", "approvals", "champions", "embeddings"}


class Rehearsal:
    """Changes a table, verifies, and takes the change back: all in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        append_only.unguard(session.connection(), append_only.guarded_tables())
        without_foreign_keys(session)

    def fault(
        self, table: type[Base], statement: Executable, values: dict[str, object] | None = None
    ) -> ledger.LedgerFault:
        with self._session.begin_nested() as attempt:
            self._session.execute(statement, values or {})
            found = ledger.verify(self._session, [table])
            attempt.rollback()
        assert found.fault is not None, statement
        return found.fault


@pytest.fixture
def sealed_at(database: Database, now: datetime) -> dict[str, int]:
    """The entry that seals each table's row."""
    with database.transaction() as session:
        return fill(session, now)


@pytest.fixture
def rehearsal(database: Database, sealed_at: dict[str, int]) -> Iterator[Rehearsal]:
    with database.reading() as session:
        assert ledger.verify(session).problem is None
    with Session(database.engine) as session:
        yield Rehearsal(session)
        session.rollback()


def test_what_is_asked_for_by_name_is_sealed() -> None:
    assert set(sealed_by_table()) > ASKED_FOR


@on_each_database
def test_every_change_to_a_sealed_table_is_found(
    rehearsal: Rehearsal, sealed_at: dict[str, int], now: datetime
) -> None:
    newest = max(sealed_at.values())
    for name, table in sealed_by_table().items():
        rows = table.__table__
        for column in changeable(table):
            change = rows.update().values({column.name: another(value_of(column, now))})
            fault = rehearsal.fault(table, change)
            assert fault.sequence == sealed_at[name], (name, column.name)
            assert "was changed" in fault.problem
        fault = rehearsal.fault(table, rows.delete())
        assert (fault.sequence, "was deleted" in fault.problem) == (sealed_at[name], True), name
        # One more row, unlike the first wherever it must be.
        strange = {
            key: value if isinstance(value, dict | datetime | bool) else another(value)
            for key, value in row_of(rows, now).items()
        }
        fault = rehearsal.fault(table, rows.insert(), strange)
        assert (fault.sequence, "never recorded" in fault.problem) == (newest + 1, True), name


def changeable(table: type[Base]) -> list[Column[Any]]:
    """Return the sealed columns by which a row is not known."""
    return [
        column
        for key in sealed_columns(table)
        if isinstance(column := table.__mapper__.columns.get(key), Column)
        and not column.primary_key
        and column.name != "batch"
    ]


@on_each_database
def test_a_row_more_in_a_sealed_batch_is_found(
    rehearsal: Rehearsal, sealed_at: dict[str, int], now: datetime
) -> None:
    embeddings = sealed_by_table()["embeddings"]
    rows = embeddings.__table__
    fault = rehearsal.fault(
        embeddings, rows.insert(), {**row_of(rows, now), "id": 2, "scan": 2}
    )
    assert fault.sequence == sealed_at["embeddings"]
    assert fault.problem == (
        "batch 1 of embeddings was changed: it has 2 rows, and was sealed with 1"
    )


def test_of_two_faults_the_earlier_entry_is_named(
    database: Database, sealed_at: dict[str, int]
) -> None:
    names = sorted(sealed_at, key=lambda name: sealed_at[name])
    with Session(database.engine) as session:
        Rehearsal(session)
        for name in (names[9], names[4]):
            session.execute(text(f"DELETE FROM {name}"))
        found = ledger.verify(session)
        session.rollback()
    assert found.fault is not None
    assert found.fault.sequence == sealed_at[names[4]]
