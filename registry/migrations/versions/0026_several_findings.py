"""Versions say their tasks, results may lack a threshold, and performance is of one finding."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("tasks", sa.JSON(none_as_null=True), nullable=True))
    op.add_column(
        "performance", sa.Column("finding", sa.String(), nullable=False, server_default="")
    )
    with op.batch_alter_table("results") as results:
        results.alter_column("threshold", existing_type=sa.Float(), nullable=True)


def downgrade() -> None:
    # What was read meanwhile without a threshold cannot stand there.
    op.execute("DELETE FROM results WHERE threshold IS NULL")
    with op.batch_alter_table("results") as results:
        results.alter_column("threshold", existing_type=sa.Float(), nullable=False)
    op.drop_column("performance", "finding")
    op.drop_column("versions", "tasks")
