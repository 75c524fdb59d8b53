"""The tables of streams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("reference", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("starts_after", sa.Integer(), nullable=False),
        sa.Column("newest_scan", sa.Integer(), nullable=False),
        sa.Column("scans", sa.Integer(), nullable=False),
        sa.Column("scans_between_false_alarms", sa.Integer(), nullable=False),
        sa.Column("scans_a_day", sa.Double(), nullable=False),
        sa.Column("measured", sa.Boolean(), nullable=False),
        sa.Column("burn_in", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.Double(), nullable=False),
        sa.Column("shifted", sa.Boolean(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=True),
        sa.Column("looked_at", UtcDateTime(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_streams_monitor_monitors")
        ),
        sa.ForeignKeyConstraint(
            ["reference"],
            ["monitor_references.id"],
            name=op.f("fk_streams_reference_monitor_references"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams")),
    )
    op.create_index(op.f("ix_streams_monitor"), "streams", ["monitor"], unique=False)
    op.create_index(op.f("ix_streams_reference"), "streams", ["reference"], unique=False)
    op.create_table(
        "stream_scans",
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["stream"], ["streams.id"], name=op.f("fk_stream_scans_stream_streams")
        ),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_stream_scans_scan_scans")
        ),
        sa.PrimaryKeyConstraint("stream", "scan", name=op.f("pk_stream_scans")),
        sa.UniqueConstraint("stream", "number", name=op.f("uq_stream_scans_stream_number")),
    )


def downgrade() -> None:
    op.drop_table("stream_scans")
    op.drop_index(op.f("ix_streams_reference"), table_name="streams")
    op.drop_index(op.f("ix_streams_monitor"), table_name="streams")
    op.drop_table("streams")
