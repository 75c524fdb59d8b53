"""Integers of 64 bits on PostgreSQL: ids of scans, embeddings and entries outgrow 32."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

COLUMNS: dict[str, tuple[str, ...]] = {
    "approvals": ("id", "run"),
    "arrival_looks": ("newest_scan",),
    "assembled_scans": ("scan", "revision", "instances", "expected", "batch"),
    "assembly_progress": ("through",),
    "champions": ("version",),
    "dataset_members": ("dataset", "scan", "batch"),
    "datasets": ("id", "scans", "patients"),
    "decisions": ("id", "episode", "plan"),
    "embeddings": ("id", "scan", "version", "batch"),
    "episodes": ("id",),
    "failed_attempts": ("id",),
    "gate_outcomes": ("id", "run"),
    "instance_places": (
        "scan",
        "series_number",
        "number",
        "series_instances",
        "study_instances",
    ),
    "jobs": ("id", "attempts", "token"),
    "label_mappings": ("id", "version"),
    "label_request_items": ("id", "request", "scan", "stratum", "place", "batch"),
    "label_requests": ("id", "run", "number", "episode", "seed"),
    "labels": ("id", "scan", "value"),
    "ledger": ("sequence",),
    "ledger_head": ("id", "sequence"),
    "locked_set_uses": ("id", "dataset", "run"),
    "look_ups": ("key",),
    "monitor_references": ("id", "version", "dataset"),
    "outbox": ("id", "version"),
    "patient_merges": ("id",),
    "performance": ("id", "version", "scans", "positives"),
    "plans": ("id", "number"),
    "pseudonym_keys": ("number", "until_batch"),
    "recalls": ("id", "version"),
    "refusals": ("id", "scan", "batch"),
    "reigns": ("id", "version"),
    "rejected_instances": ("id", "batch"),
    "restrictions": ("id",),
    "results": ("id", "scan", "version", "batch"),
    "reviews": ("id", "version", "plan"),
    "runs": ("id", "episode", "plan", "base", "champion_before", "candidate", "seed"),
    "scan_members": ("scan", "member", "position", "batch"),
    "scans": ("id", "age_years", "batch"),
    "sealed_originals": ("scan",),
    "silence_alarms": ("id", "received"),
    "source_progress": ("backlog", "token"),
    "stream_scans": ("stream", "scan", "number"),
    "streams": (
        "id",
        "reference",
        "starts_after",
        "newest_scan",
        "scans",
        "scans_between_false_alarms",
        "burn_in",
    ),
    "subgroup_references": ("id", "reference", "scans", "patients"),
    "unread_scans": ("id", "request", "scan"),
    "verdicts": ("id", "reference", "scans", "patients"),
    "versions": ("id", "number", "base", "dimension"),
    "withdrawn_scans": ("scan", "batch"),
    "worklist_statements": ("id",),
}


def upgrade() -> None:
    _alter("BIGINT")


def downgrade() -> None:
    # PostgreSQL refuses where a stored number is too large, and changes nothing.
    _alter("INTEGER")


def _alter(kind: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return  # SQLite's integers hold 64 bits whatever their type says
    for table, columns in COLUMNS.items():
        # All at once: each statement writes the whole table anew.
        changes = ", ".join(f"ALTER COLUMN {column} TYPE {kind}" for column in columns)
        connection.exec_driver_sql(f"ALTER TABLE {table} {changes}")
        for column in columns:
            sequence = connection.exec_driver_sql(
                f"SELECT pg_get_serial_sequence('{table}', '{column}')"
            ).scalar()
            if sequence is not None:
                connection.exec_driver_sql(f"ALTER SEQUENCE {sequence} AS {kind}")
