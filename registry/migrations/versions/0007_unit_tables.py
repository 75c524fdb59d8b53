"""What is read as one scan, and the tables of what scans are made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "scans",
        sa.Column("unit", sa.String(), nullable=False, server_default="instance"),
    )
    op.create_index("ix_scans_series", "scans", ["series"], unique=False)
    op.add_column("versions", sa.Column("reading", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "instance_places",
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("position", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("orientation", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("series_instances", sa.Integer(), nullable=True),
        sa.Column("study_instances", sa.Integer(), nullable=True),
        sa.Column("captured", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan"],
            ["scans.id"],
            name=op.f("fk_instance_places_scan_scans"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scan", name=op.f("pk_instance_places")),
    )
    op.create_table(
        "assembled_scans",
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=False),
        sa.Column("incomplete", sa.Boolean(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_assembled_scans_scan_scans")
        ),
        sa.PrimaryKeyConstraint("scan", name=op.f("pk_assembled_scans")),
    )
    op.create_index(op.f("ix_assembled_scans_batch"), "assembled_scans", ["batch"])
    op.create_table(
        "scan_members",
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["member"], ["scans.id"], name=op.f("fk_scan_members_member_scans")
        ),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_scan_members_scan_scans")
        ),
        sa.PrimaryKeyConstraint("scan", "member", name=op.f("pk_scan_members")),
    )
    op.create_index(op.f("ix_scan_members_batch"), "scan_members", ["batch"])
    op.create_index(op.f("ix_scan_members_member"), "scan_members", ["member"])
    op.create_table(
        "assembly_progress",
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("through", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("unit", name=op.f("pk_assembly_progress")),
    )
    op.create_table(
        "withdrawn_scans",
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("withdrawn_at", UtcDateTime(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_withdrawn_scans_scan_scans")
        ),
        sa.PrimaryKeyConstraint("scan", name=op.f("pk_withdrawn_scans")),
    )
    op.create_index(op.f("ix_withdrawn_scans_batch"), "withdrawn_scans", ["batch"])
    op.create_table(
        "rejected_instances",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("rejected_at", UtcDateTime(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_instances")),
        sa.UniqueConstraint(
            "site", "instance", name=op.f("uq_rejected_instances_site_instance")
        ),
    )
    op.create_index(op.f("ix_rejected_instances_batch"), "rejected_instances", ["batch"])
    op.create_table(
        "patient_merges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("merged", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("merged_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_merges")),
        sa.UniqueConstraint("site", "merged", name=op.f("uq_patient_merges_site_merged")),
    )


def downgrade() -> None:
    for table in (
        "patient_merges",
        "rejected_instances",
        "withdrawn_scans",
        "assembly_progress",
        "scan_members",
        "assembled_scans",
        "instance_places",
    ):
        op.drop_table(table)
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("reading")
    op.drop_index("ix_scans_series", table_name="scans")
    with op.batch_alter_table("scans") as scans:
        scans.drop_column("unit")
