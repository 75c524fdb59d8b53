"""Why a label counts as influenced, sets of classes, what codes mean, who orders worklists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("labels", sa.Column("classes", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("labels", sa.Column("influence_reason", sa.String(), nullable=True))
    with op.batch_alter_table("labels") as labels:
        labels.alter_column("signed_at", existing_type=UtcDateTime(), nullable=True)
    op.create_table(
        "label_mappings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("specification", sa.JSON(), nullable=False),
        sa.Column("applied_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_mappings")),
    )
    op.create_table(
        "worklist_statements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("ordered_by", sa.String(), nullable=True),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("stated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_statements")),
    )


def downgrade() -> None:
    op.drop_table("worklist_statements")
    op.drop_table("label_mappings")
    # What was taken in meanwhile without a time of signing cannot stand there.
    op.execute("DELETE FROM labels WHERE signed_at IS NULL")
    with op.batch_alter_table("labels") as labels:
        labels.alter_column("signed_at", existing_type=UtcDateTime(), nullable=False)
        labels.drop_column("influence_reason")
        labels.drop_column("classes")
