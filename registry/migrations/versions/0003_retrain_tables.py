"""The tables of retraining."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("applied_at", UtcDateTime(), nullable=False),
        sa.Column("applied_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("model", "number", name=op.f("uq_plans_model_number")),
    )
    op.create_index(op.f("ix_plans_model"), "plans", ["model"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("carried_out", sa.Boolean(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["episode"], ["episodes.id"], name=op.f("fk_decisions_episode_episodes")
        ),
        sa.ForeignKeyConstraint(["plan"], ["plans.id"], name=op.f("fk_decisions_plan_plans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sa.UniqueConstraint(
            "episode", "plan", "action", name=op.f("uq_decisions_episode_plan_action")
        ),
    )
    op.create_index(op.f("ix_decisions_episode"), "decisions", ["episode"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=True),
        sa.Column("plan", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.Column("champion_before", sa.Integer(), nullable=True),
        sa.Column("candidate", sa.Integer(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("datasets", sa.JSON(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["base"], ["versions.id"], name=op.f("fk_runs_base_versions")),
        sa.ForeignKeyConstraint(
            ["candidate"], ["versions.id"], name=op.f("fk_runs_candidate_versions")
        ),
        sa.ForeignKeyConstraint(
            ["champion_before"], ["versions.id"], name=op.f("fk_runs_champion_before_versions")
        ),
        sa.ForeignKeyConstraint(
            ["episode"], ["episodes.id"], name=op.f("fk_runs_episode_episodes")
        ),
        sa.ForeignKeyConstraint(["plan"], ["plans.id"], name=op.f("fk_runs_plan_plans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("episode", "plan", name=op.f("uq_runs_episode_plan")),
    )
    op.create_index(op.f("ix_runs_model"), "runs", ["model"], unique=False)
    op.create_index(op.f("ix_runs_state"), "runs", ["state"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("meaning", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("seen", sa.String(), nullable=False),
        sa.Column("signed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_approvals_run_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_run"), "approvals", ["run"], unique=False)
    op.create_table(
        "gate_outcomes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_gate_outcomes_run_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_outcomes")),
        sa.UniqueConstraint("run", "name", name=op.f("uq_gate_outcomes_run_name")),
    )
    op.create_index(op.f("ix_gate_outcomes_run"), "gate_outcomes", ["run"], unique=False)
    op.create_table(
        "locked_set_uses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.id"], name=op.f("fk_locked_set_uses_dataset_datasets")
        ),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_locked_set_uses_run_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locked_set_uses")),
        sa.UniqueConstraint("dataset", "run", name=op.f("uq_locked_set_uses_dataset_run")),
    )
    op.create_index(
        op.f("ix_locked_set_uses_dataset"), "locked_set_uses", ["dataset"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_locked_set_uses_dataset"), table_name="locked_set_uses")
    op.drop_table("locked_set_uses")
    op.drop_index(op.f("ix_gate_outcomes_run"), table_name="gate_outcomes")
    op.drop_table("gate_outcomes")
    op.drop_index(op.f("ix_approvals_run"), table_name="approvals")
    op.drop_table("approvals")
    op.drop_index(op.f("ix_runs_state"), table_name="runs")
    op.drop_index(op.f("ix_runs_model"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_decisions_episode"), table_name="decisions")
    op.drop_table("decisions")
    op.drop_index(op.f("ix_plans_model"), table_name="plans")
    op.drop_table("plans")
