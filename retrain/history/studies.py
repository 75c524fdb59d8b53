"""What read a study: each result as it was delivered, and how things stood at its moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.composition import withdrawn_because
from monitor.performance.finding import said
from monitor.tables import RefusalRow, ResultRow, ScanRow
from registry.canonical import to_json
from registry.errors import NotFoundError
from registry.versions import VersionRow, ref
from retrain.history.provenance import run_of
from retrain.history.standing import standing_at

#: Of a scan, what tells where it came from; never a pseudonym.
_SHOWN = ("site", "unit", "modality", "view", "scanner_model", "software_version", "arrived_at")


def scans_of_study(session: Session, study: str, *, site: str) -> list[ScanRow]:
    """Return a study's scans.

    Parameters
    ----------
    study : the pseudonym of its Study Instance UID

    Raises
    ------
    NotFoundError
    """
    rows = list(
        session.scalars(
            select(ScanRow)
            .where(ScanRow.study == study, ScanRow.site == site)
            .order_by(ScanRow.id)
        )
    )
    if not rows:
        raise NotFoundError(
            f"no scan of that study came from {site}: compare its Study Instance UID, and look "
            "into `driftward scan quarantine list`"
        )
    return rows


def as_of(session: Session, scans: Sequence[ScanRow], at: datetime) -> dict[str, Any]:
    """Return everything that had read these scans by a moment.

    Each reading comes with how its model stood when it read: champion, plan, who had approved,
    what was out of use, and which episodes were open. All of it is as recorded: `recomputed` is
    there so that a reader years later need not wonder.

    Raises
    ------
    NotFoundError
        If none of the scans had arrived by then.
    """
    arrived = [row for row in scans if row.arrived_at <= at]
    if not arrived:
        first = min(row.arrived_at for row in scans)
        raise NotFoundError(
            f"nothing of it had arrived by {at.isoformat()}: its first scan came {first.isoformat()}"
        )
    return {
        "at": to_json(at),
        "recomputed": False,
        "scans": [_scan(session, row, at) for row in arrived],
    }


def _scan(session: Session, row: ScanRow, at: datetime) -> dict[str, Any]:
    results = session.execute(
        select(ResultRow, VersionRow)
        .join(VersionRow, VersionRow.id == ResultRow.version)
        .where(ResultRow.scan == row.id, ResultRow.created_at <= at)
        .order_by(ResultRow.id)
    ).all()
    refusals = session.scalars(
        select(RefusalRow)
        .where(RefusalRow.scan == row.id, RefusalRow.created_at <= at)
        .order_by(RefusalRow.id)
    )
    return {
        "scan": row.id,
        **{name: to_json(getattr(row, name)) for name in _SHOWN},
        "withdrawn_now": withdrawn_because(session, row.id),
        "readings": [
            _reading(session, result, version, row.site) for result, version in results
        ],
        "refused": [
            {"model": one.model, "reason": one.reason, "at": to_json(one.created_at)}
            for one in refusals
        ],
    }


def _reading(
    session: Session, result: ResultRow, version: VersionRow, site: str
) -> dict[str, Any]:
    run = run_of(session, version)
    return {
        "version": str(ref(version)),
        "bundle": version.bundle_digest,
        "encoder": version.encoder_digest,
        #: covers the encoder and the preprocessing
        "space": version.space,
        "made_by_run": None if run is None else run.id,
        "task": result.task,
        "probabilities": to_json(result.probabilities),
        **said(version, result),
        "delivery": result.delivery,
        "at": to_json(result.created_at),
        "standing": standing_at(session, version.model, result.created_at, site=site),
    }
