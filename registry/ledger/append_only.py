"""Append-only tables: triggers that refuse to change or delete their rows, or to delete them alone.

They stop mistakes, and whoever has no right to alter tables. Who may drop a
trigger is not stopped, so `missing` says which are not as they were made.
Migrations make them (`guard`, `unguard`): one that copies a guarded table, as
altering one on SQLite may, drops its triggers and must call `guard` again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from registry.database import Base
from registry.ledger.record import AppendOnly, Kept, LedgerEntry, LedgerHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEDGER, HEAD = LedgerEntry.__tablename__, LedgerHead.__tablename__
_FUNCTIONS: Mapping[str, str] = {
    "driftward_append_only": """
BEGIN
    RAISE EXCEPTION '% is append-only: its rows are never changed nor deleted', TG_TABLE_NAME;
END;
""",
    "driftward_kept": """
BEGIN
    RAISE EXCEPTION 'rows of % are never deleted', TG_TABLE_NAME;
END;
""",
    "driftward_next_entry": """
BEGIN
    IF NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM ledger) THEN
        RAISE EXCEPTION 'ledger is append-only: an entry follows the newest';
    END IF;
    RETURN NEW;
END;
""",
    "driftward_head_moves_on": """
BEGIN
    IF NEW.id <> OLD.id OR NEW.sequence <> OLD.sequence + 1 THEN
        RAISE EXCEPTION 'ledger_head moves on by one entry at a time';
    END IF;
    RETURN NEW;
END;
""",
}


class Guard(Enum):
    """What triggers refuse."""

    #: to change rows and to delete them
    APPEND_ONLY = auto()
    #: to delete them
    KEPT = auto()


def guarded_tables() -> dict[str, Guard]:
    """Return every table that was declared so far and is guarded, and the ledger's head."""
    found = {HEAD: Guard.APPEND_ONLY}
    for mapper in Base.registry.mappers:
        table: type[Base] = mapper.class_
        if issubclass(table, AppendOnly):
            found[table.__tablename__] = Guard.APPEND_ONLY
        elif issubclass(table, Kept):
            found[table.__tablename__] = Guard.KEPT
    return dict(sorted(found.items()))


def guard(
    connection: Connection, tables: Iterable[str], kind: Guard = Guard.APPEND_ONLY
) -> None:
    """Make the triggers of some tables, replacing those that are there."""
    tables = list(tables)
    unguard(connection, tables)
    if connection.dialect.name == "postgresql":
        for name, body in _FUNCTIONS.items():
            connection.exec_driver_sql(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
                f"AS $body${body}$body$"
            )
    for table in tables:
        for name, statement in _triggers(connection, table, kind):
            connection.exec_driver_sql(statement)
            if connection.dialect.name == "postgresql":
                # Even where a session replays another server's changes.
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def unguard(connection: Connection, tables: Iterable[str]) -> None:
    """Drop the triggers of some tables."""
    postgresql = connection.dialect.name == "postgresql"
    for table in tables:
        for name, _ in _triggers(connection, table, Guard.APPEND_ONLY):  # whatever is there
            place = f" ON {table}" if postgresql else ""
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{place}")


def drop_functions(connection: Connection) -> None:
    """Drop what the triggers call, once no trigger is left."""
    if connection.dialect.name == "postgresql":
        for name in _FUNCTIONS:
            connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {name}()")


def missing(connection: Connection) -> list[str]:
    """Return the triggers that are not there as they were made, by name."""
    stored = (
        _stored_on_postgresql(connection)
        if connection.dialect.name == "postgresql"
        else _stored_on_sqlite(connection)
    )
    return [
        name
        for table, kind in guarded_tables().items()
        for name, statement in _triggers(connection, table, kind)
        if stored.get(name) != _plain(statement)
    ]


def _triggers(connection: Connection, table: str, kind: Guard) -> Iterator[tuple[str, str]]:
    """Yield the names of a table's triggers with the statements that make them."""
    make = _on_postgresql if connection.dialect.name == "postgresql" else _on_sqlite
    if kind is Guard.APPEND_ONLY:
        yield make(table, "update", kind)
    yield make(table, "delete", kind)
    if connection.dialect.name == "postgresql":
        yield make(table, "truncate", kind)
    if table == LEDGER:
        yield make(table, "insert", kind)


def _on_sqlite(table: str, verb: str, kind: Guard) -> tuple[str, str]:
    name = f"{table}_refuses_{verb}"
    refusal = f"{table} is append-only: its rows are never changed nor deleted"
    if kind is Guard.KEPT:
        refusal = f"rows of {table} are never deleted"
    condition = ""
    if (table, verb) == (LEDGER, "insert"):
        # INSERT OR REPLACE deletes without a word, and would pass the trigger on deletion.
        condition = " WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM ledger)"
        refusal = "ledger is append-only: an entry follows the newest"
    elif (table, verb) == (HEAD, "update"):
        condition = " WHEN NEW.id <> OLD.id OR NEW.sequence <> OLD.sequence + 1"
        refusal = "ledger_head moves on by one entry at a time"
    return name, (
        f"CREATE TRIGGER {name} BEFORE {verb.upper()} ON {table} FOR EACH ROW{condition} "
        f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
    )


def _on_postgresql(table: str, verb: str, kind: Guard) -> tuple[str, str]:
    name = f"{table}_refuses_{verb}"
    function = "driftward_kept" if kind is Guard.KEPT else "driftward_append_only"
    if (table, verb) == (LEDGER, "insert"):
        function = "driftward_next_entry"
    elif (table, verb) == (HEAD, "update"):
        function = "driftward_head_moves_on"
    each = "STATEMENT" if verb == "truncate" else "ROW"
    return name, (
        f"CREATE TRIGGER {name} BEFORE {verb.upper()} ON {table} "
        f"FOR EACH {each} EXECUTE FUNCTION {function}()"
    )


def _stored_on_sqlite(connection: Connection) -> dict[str, str]:
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    )
    return {name: _plain(statement) for name, statement in rows}


def _stored_on_postgresql(connection: Connection) -> dict[str, str]:
    """Read the triggers that are enabled always, and whose function is as it was made."""
    rows = connection.execute(
        text(
            "SELECT t.tgname, pg_get_triggerdef(t.oid), p.proname, p.prosrc "
            "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE NOT t.tgisinternal AND t.tgenabled = 'A' "
            "AND c.relnamespace = current_schema()::regnamespace"
        )
    )
    return {
        name: _plain(re.sub(r" \w+\.", " ", statement))
        for name, statement, function, source in rows
        if _FUNCTIONS.get(function) == source
    }


def _plain(statement: str) -> str:
    return " ".join(statement.split()).lower()
