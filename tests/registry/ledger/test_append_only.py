from __future__ import annotations

from datetime import datetime

import pytest
from databases import on_each_database
from sealed_examples import fill
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry import ledger
from registry.database import Database
from registry.ledger import append_only
from registry.ledger.append_only import Guard

pytestmark = on_each_database

GUARDED = {
    *("approvals", "gate_outcomes", "ledger", "ledger_head", "locked_set_uses", "plans"),
    *("attestations", "decisions", "reviews", "watch_looks"),
}
#: Their rows change; they are never deleted.
KEPT = {
    *("champions", "identities", "models", "recalls", "reigns", "restrictions", "runs"),
    *("runtimes", "sessions", "tokens", "versions", "watches"),
}


@pytest.fixture
def filled(database: Database, now: datetime) -> Database:
    """One row in every table, and more than one entry."""
    with database.transaction() as session:
        fill(session, now)
    return database


def refused(database: Database, statement: str) -> str:
    """Return what the database says to a statement that it refuses."""
    with pytest.raises(DBAPIError) as raised, database.transaction() as session:
        session.execute(text(statement))
    return str(raised.value.orig)


def test_migrations_guard_every_table_that_is_declared_so(filled: Database) -> None:
    assert append_only.guarded_tables() == {
        **dict.fromkeys(GUARDED, Guard.APPEND_ONLY),
        **dict.fromkeys(KEPT, Guard.KEPT),
    }
    with filled.engine.connect() as connection:
        assert append_only.missing(connection) == []


@pytest.mark.parametrize("table", sorted(GUARDED - {"ledger_head"}))
def test_rows_can_be_added_and_neither_changed_nor_deleted(
    filled: Database, table: str
) -> None:
    column = "actor" if table == "ledger" else "id"
    assert "append-only" in refused(filled, f"UPDATE {table} SET {column} = {column}")
    assert "append-only" in refused(filled, f"DELETE FROM {table}")
    if filled.engine.dialect.name == "postgresql":
        assert "append-only" in refused(filled, f"TRUNCATE {table} CASCADE")
    with filled.reading() as session:
        assert ledger.verify(session).valid


@pytest.mark.parametrize("table", sorted(KEPT))
def test_rows_that_may_change_are_never_deleted(filled: Database, table: str) -> None:
    said = f"rows of {table} are never deleted"
    assert said in refused(filled, f"DELETE FROM {table}")
    if filled.engine.dialect.name == "postgresql":
        assert "never" in refused(filled, f"TRUNCATE {table} CASCADE")
    named = {"champions": "model", "identities": "name", "models": "name", "runtimes": "model"}
    column = named.get(table, "id")
    with filled.transaction() as session:
        session.execute(text(f"UPDATE {table} SET {column} = {column}"))


def test_the_head_only_moves_on(filled: Database) -> None:
    assert "one entry at a time" in refused(filled, "UPDATE ledger_head SET sequence = 2")
    assert "append-only" in refused(filled, "DELETE FROM ledger_head")


def test_an_entry_can_neither_be_replaced_nor_set_between(filled: Database) -> None:
    columns = "sequence, recorded_at, actor, kind, subject, canonical, digest"
    values = "recorded_at, 'x', kind, subject, canonical, digest FROM ledger WHERE sequence = 2"
    for sequence in (2, 1000):
        statement = f"INTO ledger ({columns}) SELECT {sequence}, {values}"
        assert "follows the newest" in refused(filled, f"INSERT {statement}")
        if filled.engine.dialect.name == "sqlite":
            assert "follows the newest" in refused(filled, f"INSERT OR REPLACE {statement}")


def test_a_dropped_trigger_is_named(filled: Database) -> None:
    on = " ON ledger" if filled.engine.dialect.name == "postgresql" else ""
    with filled.transaction() as session:
        session.execute(text(f"DROP TRIGGER ledger_refuses_delete{on}"))
    with filled.reading() as session:
        found = ledger.verify(session)
    assert (found.valid, found.fault, found.unguarded) == (
        False,
        None,
        ("ledger_refuses_delete",),
    )
    assert found.problem is not None
    assert "ledger_refuses_delete" in found.problem


def test_a_trigger_that_was_made_harmless_is_named(filled: Database) -> None:
    with filled.transaction() as session:
        if filled.engine.dialect.name == "postgresql":
            session.execute(text("ALTER TABLE ledger DISABLE TRIGGER ledger_refuses_update"))
        else:
            session.execute(text("DROP TRIGGER ledger_refuses_update"))
            session.execute(
                text(
                    "CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger "
                    "FOR EACH ROW BEGIN SELECT 1; END"
                )
            )
    with filled.reading() as session:
        assert ledger.verify(session).unguarded == ("ledger_refuses_update",)
