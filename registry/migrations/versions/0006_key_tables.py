"""The tables of pseudonym keys, of what they look up, and of sealed originals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pseudonym_keys",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=True),
        sa.Column("until_batch", sa.Integer(), nullable=True),
        sa.Column("tokens", sa.JSON(), nullable=False),
        sa.Column("dropped_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_pseudonym_keys")),
    )
    op.create_table(
        "look_ups",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("surrogate", sa.String(), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_look_ups")),
    )
    op.create_index(op.f("ix_look_ups_surrogate"), "look_ups", ["surrogate"])
    op.create_index(op.f("ix_look_ups_key"), "look_ups", ["key"])
    op.create_table(
        "sealed_originals",
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_sealed_originals_scan_scans")
        ),
        sa.PrimaryKeyConstraint("scan", name=op.f("pk_sealed_originals")),
    )


def downgrade() -> None:
    op.drop_table("sealed_originals")
    op.drop_table("look_ups")
    op.drop_table("pseudonym_keys")
