"""Parts of tables: made by migrations on PostgreSQL, and declared by no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, text


def parts(connection: Connection) -> dict[str, str]:
    """Return the name of each part of a table, with the range that it holds as SQL has it."""
    if connection.dialect.name != "postgresql":
        return {}
    rows = connection.execute(
        text(
            "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class "
            "WHERE relispartition AND relkind = 'r' "
            "AND relnamespace = current_schema()::regnamespace ORDER BY relname"
        )
    )
    return {str(name): str(span) for name, span in rows}


def without_parts(
    connection: Connection,
) -> Callable[[str | None, str, Mapping[Any, Any]], bool]:
    """Return what Alembic asks which names to compare with the models (`include_name`)."""
    left_out = parts(connection)

    def included(name: str | None, kind: str, _parents: Mapping[Any, Any]) -> bool:
        return kind != "table" or name not in left_out

    return included
