"""Clinical runtimes, and what they attest that they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime
from registry.ledger import append_only

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "runtimes",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("silent_after_hours", sa.Double(), nullable=False),
        sa.Column("declared_at", UtcDateTime(), nullable=False),
        sa.Column("declared_by", sa.String(), nullable=False),
        sa.Column("withdrawn_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_runtimes_model_models")
        ),
        sa.PrimaryKeyConstraint("model", "deployment", name=op.f("pk_runtimes")),
    )
    op.create_table(
        "attestations",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("version", NUMBER, nullable=True),
        sa.Column("champion", NUMBER, nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_attestations_model_models")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_attestations_version_versions")
        ),
        sa.ForeignKeyConstraint(
            ["champion"], ["versions.id"], name=op.f("fk_attestations_champion_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attestations")),
    )
    op.create_index(op.f("ix_attestations_model"), "attestations", ["model"], unique=False)
    append_only.guard(op.get_bind(), ["attestations"])


def downgrade() -> None:
    append_only.unguard(op.get_bind(), ["attestations"])
    op.drop_table("attestations")
    op.drop_table("runtimes")
