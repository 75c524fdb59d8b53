"""What MLflow could not be told says how often, when and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    wide = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for column in (
        sa.Column("failures", wide, nullable=False, server_default=sa.text("0")),
        sa.Column("failed_at", UtcDateTime()),
        sa.Column("error", sa.String()),
    ):
        op.add_column("outbox", column)


def downgrade() -> None:
    for column in ("error", "failed_at", "failures"):
        op.drop_column("outbox", column)
