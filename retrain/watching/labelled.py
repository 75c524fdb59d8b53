"""The labels that a watch may look at: no AI influenced them, and how they were drawn is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from monitor import labels, references
from monitor.assembling.counting import not_withdrawn
from monitor.performance.performance import labelled_results
from monitor.requests.tables import LabelRequestItemRow, LabelRequestRow, Part
from monitor.tables import ResultRow, ScanRow
from registry.errors import InsufficientDataError
from registry.serving import EVERYWHERE
from registry.versions import VersionRow
from retrain.gates.results import Results
from retrain.label_rules import LabelRules
from retrain.run_data import labelled_scans
from retrain.tables import WatchRow

#: Parameters of one statement; databases limit them.
_AT_ONCE = 500


def of_watch(row: WatchRow, *, task: str, until: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of scans with the watched version's result on them."""
    where = [
        ResultRow.version == row.version,
        ResultRow.task == task,
        ScanRow.arrived_at >= row.since,
        ScanRow.arrived_at < min(row.until, until),
        not_withdrawn(),
    ]
    if row.deployment != EVERYWHERE:
        where.append(ScanRow.site == row.deployment)
    return tuple(where)


def labelled_in_use(
    session: Session,
    row: WatchRow,
    *,
    task: str,
    rules: LabelRules,
    at: datetime,
    finding: str = "",
) -> Results | None:
    """Return what the watched version said of labelled scans, or None where no label counts.

    Of a task of several findings, what it said of one of them.

    Left out are labels that an AI influenced or whose provenance the plan does not name, the
    version's own training patients, and scans drawn to train a run: these cover the embeddings
    and are no sample. Scans drawn for a run's gates weigh the inverse of their chance.
    """
    scans = list(
        session.scalars(
            select(ScanRow)
            .join(ResultRow, ResultRow.scan == ScanRow.id)
            .where(*of_watch(row, task=task, until=at), labels.having_label(task))
            .order_by(ScanRow.id)
        )
    )
    version = session.get_one(VersionRow, row.version)
    honest = labelled_scans(session, scans, task=task, rules=rules)
    honest = references.eligible(session, honest, [version])
    drawn = _drawn(session, [scan.id for scan in honest])
    chosen = {scan.id for scan in honest if drawn.get(scan.id) != 0.0}
    try:
        found = labelled_results(
            session,
            version=row.version,
            task=task,
            finding=finding,
            without_ai=True,
            only=chosen,
        )
    except InsufficientDataError:
        return None
    weights = np.array([drawn.get(scan.id, 1.0) for scan in found.scans])
    return Results(
        probabilities=found.scores,
        truth=found.truth,
        patients=np.array(found.patients),
        threshold=found.threshold,
        weights=weights if drawn else None,
    )


def _drawn(session: Session, scans: Sequence[int]) -> dict[int, float]:
    """Return what each scan that a request drew weighs among its request's; 0 of training's."""
    weights: dict[int, float] = {}
    for start in range(0, len(scans), _AT_ONCE):
        rows = session.execute(
            select(
                LabelRequestItemRow.scan,
                LabelRequestItemRow.part,
                LabelRequestItemRow.stratum,
                LabelRequestRow.strata,
            )
            .join(LabelRequestRow, LabelRequestRow.id == LabelRequestItemRow.request)
            .where(LabelRequestItemRow.scan.in_(scans[start : start + _AT_ONCE]))
            .order_by(LabelRequestItemRow.request)
        )
        for scan, part, stratum, strata in rows:
            weights[scan] = _weight(part, stratum, strata)
    return weights


def _weight(part: str, stratum: int | None, strata: list[dict[str, int]]) -> float:
    if part == Part.TRAINING or stratum is None:
        return 0.0 if part == Part.TRAINING else 1.0
    if part == Part.SELECTION:
        return 1.0  # everybody's chance is the same
    patients = sum(one["patients"] for one in strata)
    asked = sum(one["drawn"] for one in strata)
    own = strata[stratum]
    # On average 1, so that a request's labels stand beside those that came by themselves.
    return (own["patients"] / own["drawn"]) / (patients / asked)
