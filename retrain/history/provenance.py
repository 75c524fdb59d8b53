"""Where a version came from: its data, the run that made it, the plan and the people."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from monitor.tables import DatasetMember, DatasetRow, LabelRow, ScanRow
from registry import lineage
from registry.canonical import Json, to_json
from registry.versions import VersionRow, ref
from retrain import plans
from retrain.tables import ApprovalRow, RunRow


def approvals_until(session: Session, run: RunRow, at: datetime) -> list[dict[str, Any]]:
    """Return a run's signatures of up to a moment, oldest first."""
    return [
        {
            "by": row.by,
            "printed_name": row.printed_name or row.by,
            "proof": row.proof,
            "meaning": row.meaning,
            "reason": row.reason,
            "signed_at": to_json(row.signed_at),
            "seen": row.seen,
        }
        for row in session.scalars(
            select(ApprovalRow)
            .where(ApprovalRow.run == run.id, ApprovalRow.signed_at <= at)
            .order_by(ApprovalRow.id)
        )
    ]


def trained_on(session: Session, version: VersionRow) -> list[dict[str, Any]]:
    """Return what a version, and each version behind it, was trained and chosen on.

    Its card names data by digest. What is stored here is described by sites, scanners, time and
    labels; of data that never were here, the card's own words are all there is.
    """
    return [
        {
            "version": str(ref(one)),
            "origin": one.origin,
            "bundle": one.bundle_digest,
            "made_by": _made_by(session, one),
            "data": [_described(session, data) for data in one.card.get("training_data", [])],
        }
        for one in (version, *lineage.ancestors(session, version))
    ]


def run_of(session: Session, version: VersionRow) -> RunRow | None:
    """Return the run whose candidate a version is, or None for an imported one."""
    return session.scalars(select(RunRow).where(RunRow.candidate == version.id)).first()


def _made_by(session: Session, version: VersionRow) -> Json:
    run = run_of(session, version)
    if run is None:
        return {"by": version.created_by, "at": to_json(version.created_at)}
    plan = plans.by_id(session, run.plan)
    return {
        "run": run.id,
        "strategy": run.strategy,
        "seed": run.seed,
        "plan": plan.number,
        "plan_digest": plan.digest,
        "mlflow_run": version.mlflow_run,
        "at": to_json(version.created_at),
    }


def _described(session: Session, data: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        key: data.get(key) for key in ("digest", "description", "scans", "licence")
    }
    dataset = session.scalars(
        select(DatasetRow)
        .where(DatasetRow.digest == data.get("digest"))
        .order_by(DatasetRow.id)
    ).first()
    if dataset is None:
        return {**said, "stored_here": False}
    members = select(DatasetMember.scan).where(DatasetMember.dataset == dataset.id)
    first, last = session.execute(
        select(func.min(ScanRow.arrived_at), func.max(ScanRow.arrived_at)).where(
            ScanRow.id.in_(members)
        )
    ).one()
    return {
        **said,
        "stored_here": True,
        "purpose": dataset.purpose,
        "scans": dataset.scans,
        "patients": dataset.patients,
        "frozen_at": to_json(dataset.frozen_at),
        "first_arrived_at": to_json(first),
        "last_arrived_at": to_json(last),
        "sites": _counted(session, ScanRow.site, members),
        "scanners": _counted(session, ScanRow.scanner_model, members),
        "labels": _labels(session, members),
    }


def _counted(
    session: Session, column: InstrumentedAttribute[Any], members: Select[Any]
) -> dict[str, Any]:
    rows = session.execute(
        select(column, func.count(ScanRow.id)).where(ScanRow.id.in_(members)).group_by(column)
    )
    return {value or "not stated": count for value, count in rows}


def _labels(session: Session, members: Select[Any]) -> dict[str, Any]:
    """Count the newest label of each scan by provenance, and those that an AI influenced."""
    newest: dict[int, LabelRow] = {}
    for row in session.scalars(
        select(LabelRow).where(LabelRow.scan.in_(members)).order_by(LabelRow.id)
    ):
        newest[row.scan] = row
    return {
        "by_provenance": dict(Counter(row.provenance for row in newest.values())),
        "ai_influenced": sum(row.ai_influenced for row in newest.values()),
    }
