"""One scan's history: what is known of it, who read it, what was said, what was true."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from monitor.assembling.composition import composition_of, withdrawn_because
from monitor.assembling.tables import ScanMemberRow
from monitor.intake.study_time import months_until
from monitor.labelling.influence import words_of
from monitor.labelling.listing import describe_truth, labels_of_scan
from monitor.labelling.truth import decide
from monitor.performance.finding import said
from monitor.tables import LabelRow, RefusalRow, ResultRow, ScanRow
from registry.canonical import Json, to_json
from registry.errors import NotFoundError
from registry.versions import VersionRow, ref

#: Columns that are shown; pseudonyms are not, since nobody needs them to judge a scan.
SHOWN = (
    "id",
    "site",
    "unit",
    "modality",
    "body_part",
    "view",
    "manufacturer",
    "scanner_model",
    "software_version",
    "station",
    "protocol",
    "sex",
    "age_years",
    "study_date",
    "arrived_at",
)


def describe_scan(session: Session, scan: int) -> dict[str, Json]:
    """Return a scan with its results, refusals and labels, and what is true by these.

    Raises
    ------
    NotFoundError
    """
    row = session.get(ScanRow, scan)
    if row is None:
        raise NotFoundError(f"there is no scan {scan}: see `driftward scan list`")
    results = session.execute(
        select(ResultRow, VersionRow)
        .join(VersionRow, VersionRow.id == ResultRow.version)
        .where(ResultRow.scan == scan)
        .order_by(ResultRow.id)
    ).all()
    refusals = session.scalars(select(RefusalRow).where(RefusalRow.scan == scan))
    members = select(ScanMemberRow.member).where(ScanMemberRow.scan == scan)
    labels = session.scalars(
        select(LabelRow)
        .where(or_(LabelRow.scan == scan, LabelRow.scan.in_(members)))
        .order_by(LabelRow.id)
    ).all()
    by_task = labels_of_scan(session, scan)
    composition = composition_of(session, scan)
    return {
        **{name: to_json(getattr(row, name)) for name in SHOWN},
        # A backlog of old studies that is taken in at once shows by it.
        "months_after_study": months_until(row.study_date, row.arrived_at),
        "made_of": None if composition is None else to_json(asdict(composition)),
        "withdrawn": withdrawn_because(session, scan),
        "results": [
            {
                "version": str(ref(version)),
                "task": result.task,
                **said(version, result),
                "delivery": result.delivery,
                "at": to_json(result.created_at),
            }
            for result, version in results
        ],
        "refused": [{"model": refusal.model, "reason": refusal.reason} for refusal in refusals],
        "labels": [
            {
                "task": label.task,
                "value": label.value,
                "classes": to_json(label.classes),
                "provenance": label.provenance,
                "ai_influenced": label.ai_influenced,
                "influence": words_of(label.influence_reason),
                "signed_at": to_json(label.signed_at),
            }
            for label in labels
        ],
        "truth": [describe_truth(task, decide(rows)) for task, rows in by_task.items()],
    }
