"""What is kept of the day of a study, where that is set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("scans", sa.Column("study_date", sa.String(), nullable=True))


def downgrade() -> None:
    # In place: other tables refer to this one, so that it cannot be made anew.
    op.drop_column("scans", "study_date")
