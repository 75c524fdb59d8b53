"""Watches over promoted versions, and what a restriction has to do with a version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime
from registry.ledger import append_only

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "watches",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("plan", NUMBER, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_watches_model_models")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_watches_version_versions")
        ),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_watches_run_runs")),
        sa.ForeignKeyConstraint(["plan"], ["plans.id"], name=op.f("fk_watches_plan_plans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watches")),
        sa.UniqueConstraint(
            "version", "deployment", "since", name=op.f("uq_watches_version_deployment_since")
        ),
    )
    for column in ("model", "run", "state"):
        op.create_index(op.f(f"ix_watches_{column}"), "watches", [column], unique=False)
    op.create_table(
        "watch_looks",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("watch", NUMBER, nullable=False),
        sa.Column("day", NUMBER, nullable=False),
        sa.Column("looked_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("labelled", NUMBER, nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["watch"], ["watches.id"], name=op.f("fk_watch_looks_watch_watches")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch_looks")),
        sa.UniqueConstraint("watch", "day", name=op.f("uq_watch_looks_watch_day")),
    )
    op.create_index(op.f("ix_watch_looks_watch"), "watch_looks", ["watch"], unique=False)
    append_only.guard(op.get_bind(), ["watch_looks"])
    with op.batch_alter_table("restrictions") as restrictions:
        for column in ("because_of", "lifted_for"):
            restrictions.add_column(sa.Column(column, NUMBER, nullable=True))
            restrictions.create_foreign_key(
                op.f(f"fk_restrictions_{column}_versions"), "versions", [column], ["id"]
            )


def downgrade() -> None:
    with op.batch_alter_table("restrictions") as restrictions:
        for column in ("because_of", "lifted_for"):
            restrictions.drop_constraint(
                op.f(f"fk_restrictions_{column}_versions"), type_="foreignkey"
            )
            restrictions.drop_column(column)
    append_only.unguard(op.get_bind(), ["watch_looks"])
    op.drop_table("watch_looks")
    op.drop_table("watches")
