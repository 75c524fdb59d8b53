"""Runs migrations on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from registry.database import Base
from registry.parts import without_parts

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    # SQLite can alter a table only by copying it.
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_name=without_parts(connection),
)
with context.begin_transaction():
    context.run_migrations()
