"""Series and studies that a server said are complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stable_groups",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("stated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("site", "study", "series", name=op.f("pk_stable_groups")),
    )


def downgrade() -> None:
    op.drop_table("stable_groups")
