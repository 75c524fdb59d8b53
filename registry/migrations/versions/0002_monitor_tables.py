"""The monitor's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("scans", sa.Integer(), nullable=False),
        sa.Column("patients", sa.Integer(), nullable=False),
        sa.Column("frozen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_digest"), "datasets", ["digest"], unique=False)
    op.create_table(
        "scans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("vault_digest", sa.String(), nullable=False),
        sa.Column("pixel_digest", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("body_part", sa.String(), nullable=True),
        sa.Column("view", sa.String(), nullable=True),
        sa.Column("manufacturer", sa.String(), nullable=True),
        sa.Column("scanner_model", sa.String(), nullable=True),
        sa.Column("software_version", sa.String(), nullable=True),
        sa.Column("station", sa.String(), nullable=True),
        sa.Column("protocol", sa.String(), nullable=True),
        sa.Column("sex", sa.String(), nullable=True),
        sa.Column("age_years", sa.Integer(), nullable=True),
        sa.Column("arrived_at", UtcDateTime(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scans")),
        sa.UniqueConstraint("site", "instance", name=op.f("uq_scans_site_instance")),
    )
    op.create_index(op.f("ix_scans_arrived_at"), "scans", ["arrived_at"], unique=False)
    op.create_index(op.f("ix_scans_batch"), "scans", ["batch"], unique=False)
    op.create_index(op.f("ix_scans_patient"), "scans", ["patient"], unique=False)
    op.create_index("ix_scans_site_arrived_at", "scans", ["site", "arrived_at"], unique=False)
    op.create_index(op.f("ix_scans_study"), "scans", ["study"], unique=False)
    op.create_table(
        "dataset_members",
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.id"], name=op.f("fk_dataset_members_dataset_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["scan"], ["scans.id"], name=op.f("fk_dataset_members_scan_scans")
        ),
        sa.PrimaryKeyConstraint("dataset", "scan", name=op.f("pk_dataset_members")),
    )
    op.create_index(
        op.f("ix_dataset_members_batch"), "dataset_members", ["batch"], unique=False
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("provenance", sa.String(), nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("signed_at", UtcDateTime(), nullable=False),
        sa.Column("ai_influenced", sa.Boolean(), nullable=False),
        sa.Column("arrived_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["scan"], ["scans.id"], name=op.f("fk_labels_scan_scans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_scan"), "labels", ["scan"], unique=False)
    op.create_table(
        "monitors",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("specification", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("applied_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_monitors_model_models")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_monitors")),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_refusals_model_models")
        ),
        sa.ForeignKeyConstraint(["scan"], ["scans.id"], name=op.f("fk_refusals_scan_scans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sa.UniqueConstraint("scan", "model", name=op.f("uq_refusals_scan_model")),
    )
    op.create_index(op.f("ix_refusals_batch"), "refusals", ["batch"], unique=False)
    op.create_index(op.f("ix_refusals_model"), "refusals", ["model"], unique=False)
    op.create_index(op.f("ix_refusals_scan"), "refusals", ["scan"], unique=False)
    op.create_table(
        "embeddings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scan"], ["scans.id"], name=op.f("fk_embeddings_scan_scans")),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_embeddings_version_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embeddings")),
        sa.UniqueConstraint("scan", "version", name=op.f("uq_embeddings_scan_version")),
    )
    op.create_index(op.f("ix_embeddings_batch"), "embeddings", ["batch"], unique=False)
    op.create_index(op.f("ix_embeddings_scan"), "embeddings", ["scan"], unique=False)
    op.create_index(op.f("ix_embeddings_version"), "embeddings", ["version"], unique=False)
    op.create_table(
        "episodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("onset", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("closed_reason", sa.String(), nullable=True),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("subgroup", sa.String(), nullable=True),
        sa.Column("impact", sa.String(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=False),
        sa.Column("effect", sa.Double(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("heaviest", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_episodes_monitor_monitors")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_episodes")),
    )
    op.create_index(op.f("ix_episodes_monitor"), "episodes", ["monitor"], unique=False)
    op.create_table(
        "monitor_references",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("encoder", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("profile_digest", sa.String(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=False),
        sa.Column("decides", sa.Boolean(), nullable=False),
        sa.Column("trend", sa.Boolean(), nullable=False),
        sa.Column("retired_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.id"], name=op.f("fk_monitor_references_dataset_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_monitor_references_monitor_monitors")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_monitor_references_version_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_references")),
    )
    op.create_index(
        op.f("ix_monitor_references_monitor"), "monitor_references", ["monitor"], unique=False
    )
    op.create_table(
        "subgroup_references",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Integer(), nullable=False),
        sa.Column("subgroup", sa.String(), nullable=False),
        sa.Column("scans", sa.Integer(), nullable=False),
        sa.Column("patients", sa.Integer(), nullable=False),
        sa.Column("profile_digest", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["reference"],
            ["monitor_references.id"],
            name=op.f("fk_subgroup_references_reference_monitor_references"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subgroup_references")),
        sa.UniqueConstraint(
            "reference", "subgroup", name=op.f("uq_subgroup_references_reference_subgroup")
        ),
    )
    op.create_index(
        op.f("ix_subgroup_references_reference"),
        "subgroup_references",
        ["reference"],
        unique=False,
    )
    op.create_table(
        "performance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("start", UtcDateTime(), nullable=False),
        sa.Column("end", UtcDateTime(), nullable=False),
        sa.Column("subgroup", sa.String(), nullable=False),
        sa.Column("scans", sa.Integer(), nullable=False),
        sa.Column("positives", sa.Integer(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_performance_monitor_monitors")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_performance_version_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_performance")),
    )
    op.create_index(op.f("ix_performance_end"), "performance", ["end"], unique=False)
    op.create_index(op.f("ix_performance_monitor"), "performance", ["monitor"], unique=False)
    op.create_table(
        "silence_alarms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("subgroup", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("expected", sa.Double(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("closed_reason", sa.String(), nullable=True),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_silence_alarms_monitor_monitors")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silence_alarms")),
    )
    op.create_index(
        op.f("ix_silence_alarms_monitor"), "silence_alarms", ["monitor"], unique=False
    )
    op.create_table(
        "arrival_looks",
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("looked_at", UtcDateTime(), nullable=False),
        sa.Column("newest_scan", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_arrival_looks_monitor_monitors")
        ),
        sa.PrimaryKeyConstraint("monitor", name=op.f("pk_arrival_looks")),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("delivery", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scan"], ["scans.id"], name=op.f("fk_results_scan_scans")),
        sa.ForeignKeyConstraint(
            ["version"], ["versions.id"], name=op.f("fk_results_version_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint(
            "scan", "version", "task", name=op.f("uq_results_scan_version_task")
        ),
    )
    op.create_index(op.f("ix_results_batch"), "results", ["batch"], unique=False)
    op.create_index(op.f("ix_results_scan"), "results", ["scan"], unique=False)
    op.create_index(op.f("ix_results_version"), "results", ["version"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("monitor", sa.String(), nullable=False),
        sa.Column("reference", sa.Integer(), nullable=False),
        sa.Column("start", UtcDateTime(), nullable=False),
        sa.Column("end", UtcDateTime(), nullable=False),
        sa.Column("subgroup", sa.String(), nullable=False),
        sa.Column("scans", sa.Integer(), nullable=False),
        sa.Column("patients", sa.Integer(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=False),
        sa.Column("week_p_value", sa.Double(), nullable=True),
        sa.Column("effect", sa.Double(), nullable=False),
        sa.Column("effect_low", sa.Double(), nullable=False),
        sa.Column("effect_high", sa.Double(), nullable=False),
        sa.Column("ordinary_effect", sa.Double(), nullable=True),
        sa.Column("smallest_effect", sa.Double(), nullable=False),
        sa.Column("persistence_p_value", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor"], ["monitors.name"], name=op.f("fk_verdicts_monitor_monitors")
        ),
        sa.ForeignKeyConstraint(
            ["reference"],
            ["monitor_references.id"],
            name=op.f("fk_verdicts_reference_monitor_references"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint(
            "monitor",
            "reference",
            "start",
            "end",
            "subgroup",
            name=op.f("uq_verdicts_monitor_reference_start_end_subgroup"),
        ),
    )
    op.create_index(op.f("ix_verdicts_end"), "verdicts", ["end"], unique=False)
    op.create_index(op.f("ix_verdicts_monitor"), "verdicts", ["monitor"], unique=False)
    op.create_index(op.f("ix_verdicts_reference"), "verdicts", ["reference"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_verdicts_reference"), table_name="verdicts")
    op.drop_index(op.f("ix_verdicts_monitor"), table_name="verdicts")
    op.drop_index(op.f("ix_verdicts_end"), table_name="verdicts")
    op.drop_table("verdicts")
    op.drop_table("arrival_looks")
    op.drop_index(op.f("ix_silence_alarms_monitor"), table_name="silence_alarms")
    op.drop_table("silence_alarms")
    op.drop_index(op.f("ix_results_version"), table_name="results")
    op.drop_index(op.f("ix_results_scan"), table_name="results")
    op.drop_index(op.f("ix_results_batch"), table_name="results")
    op.drop_table("results")
    op.drop_index(op.f("ix_performance_monitor"), table_name="performance")
    op.drop_index(op.f("ix_performance_end"), table_name="performance")
    op.drop_table("performance")
    op.drop_index(op.f("ix_subgroup_references_reference"), table_name="subgroup_references")
    op.drop_table("subgroup_references")
    op.drop_index(op.f("ix_monitor_references_monitor"), table_name="monitor_references")
    op.drop_table("monitor_references")
    op.drop_index(op.f("ix_episodes_monitor"), table_name="episodes")
    op.drop_table("episodes")
    op.drop_index(op.f("ix_embeddings_version"), table_name="embeddings")
    op.drop_index(op.f("ix_embeddings_scan"), table_name="embeddings")
    op.drop_index(op.f("ix_embeddings_batch"), table_name="embeddings")
    op.drop_table("embeddings")
    op.drop_index(op.f("ix_refusals_scan"), table_name="refusals")
    op.drop_index(op.f("ix_refusals_model"), table_name="refusals")
    op.drop_index(op.f("ix_refusals_batch"), table_name="refusals")
    op.drop_table("refusals")
    op.drop_table("monitors")
    op.drop_index(op.f("ix_labels_scan"), table_name="labels")
    op.drop_table("labels")
    op.drop_index(op.f("ix_dataset_members_batch"), table_name="dataset_members")
    op.drop_table("dataset_members")
    op.drop_index(op.f("ix_scans_study"), table_name="scans")
    op.drop_index("ix_scans_site_arrived_at", table_name="scans")
    op.drop_index(op.f("ix_scans_patient"), table_name="scans")
    op.drop_index(op.f("ix_scans_batch"), table_name="scans")
    op.drop_index(op.f("ix_scans_arrived_at"), table_name="scans")
    op.drop_table("scans")
    op.drop_index(op.f("ix_datasets_digest"), table_name="datasets")
    op.drop_table("datasets")
