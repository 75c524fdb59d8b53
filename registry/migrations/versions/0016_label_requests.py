"""Label requests; a decision is the same only if its reason is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("frame_digest", sa.String(), nullable=False),
        sa.Column("strata", sa.JSON(), nullable=False),
        sa.Column("equal_chance", sa.Double(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode"], ["episodes.id"], name=op.f("fk_label_requests_episode_episodes")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_requests")),
        sa.UniqueConstraint("run", "number", name=op.f("uq_label_requests_run_number")),
    )
    op.create_index(op.f("ix_label_requests_run"), "label_requests", ["run"], unique=False)
    op.create_index(
        op.f("ix_label_requests_episode"), "label_requests", ["episode"], unique=False
    )
    op.create_table(
        "label_request_items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("stratum", sa.Integer(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("chance", sa.Double(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request"],
            ["label_requests.id"],
            name=op.f("fk_label_request_items_request_label_requests"),
        ),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_label_request_items_scan_scans")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_request_items")),
        sa.UniqueConstraint(
            "request", "scan", name=op.f("uq_label_request_items_request_scan")
        ),
    )
    for column in ("batch", "request", "scan"):
        op.create_index(
            op.f(f"ix_label_request_items_{column}"),
            "label_request_items",
            [column],
            unique=False,
        )
    op.create_table(
        "unread_scans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("stated_by", sa.String(), nullable=False),
        sa.Column("stated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request"],
            ["label_requests.id"],
            name=op.f("fk_unread_scans_request_label_requests"),
        ),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_unread_scans_scan_scans")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unread_scans")),
        sa.UniqueConstraint("request", "scan", name=op.f("uq_unread_scans_request_scan")),
    )
    op.create_index(op.f("ix_unread_scans_request"), "unread_scans", ["request"], unique=False)
    with op.batch_alter_table("decisions") as decisions:
        decisions.drop_constraint(op.f("uq_decisions_episode_plan_action"), type_="unique")
        decisions.create_unique_constraint(
            op.f("uq_decisions_episode_plan_action_reason"),
            ["episode", "plan", "action", "reason"],
        )


def downgrade() -> None:
    # Of decisions that differ in their reason alone the first stays.
    op.execute(
        "DELETE FROM decisions WHERE id NOT IN "
        "(SELECT min(id) FROM decisions GROUP BY episode, plan, action)"
    )
    with op.batch_alter_table("decisions") as decisions:
        decisions.drop_constraint(
            op.f("uq_decisions_episode_plan_action_reason"), type_="unique"
        )
        decisions.create_unique_constraint(
            op.f("uq_decisions_episode_plan_action"), ["episode", "plan", "action"]
        )
    op.drop_table("unread_scans")
    op.drop_table("label_request_items")
    op.drop_table("label_requests")
