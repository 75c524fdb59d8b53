"""A result says which of its task's classes is looked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    wide = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("results", sa.Column("finding", wide))


def downgrade() -> None:
    op.drop_column("results", "finding")
