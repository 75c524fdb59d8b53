"""Append-only tables refuse changes, and the ledger's head is there from the beginning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.ledger import append_only

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLES = (
    "approvals",
    "gate_outcomes",
    "ledger",
    "ledger_head",
    "locked_set_uses",
    "plans",
    "reviews",
)


def upgrade() -> None:
    connection = op.get_bind()
    # Two first writers would each make one; what is there can be locked.
    if connection.execute(sa.text("SELECT count(*) FROM ledger_head")).scalar_one() == 0:
        connection.execute(
            sa.text("INSERT INTO ledger_head (id, sequence, digest) VALUES (1, 0, :genesis)"),
            {"genesis": "0" * 64},
        )
    append_only.guard(connection, TABLES)


def downgrade() -> None:
    connection = op.get_bind()
    append_only.unguard(connection, TABLES)
    append_only.drop_functions(connection)
