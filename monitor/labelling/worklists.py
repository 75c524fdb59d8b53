"""Who orders a site's worklist: stated by a person, and what that changes of its labels."""

from __future__ import annotations

import re
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.labelling.influence import InfluenceReason, reasons_for, require_site
from monitor.labelling.tables import WorklistRow
from monitor.tables import LabelRow, ScanRow
from registry import ledger
from registry.errors import LabelError

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


def all_statements(session: Session, site: str | None = None) -> list[WorklistRow]:
    """Return what was stated, of one site or of all, by site and time."""
    query = select(WorklistRow).order_by(WorklistRow.site, WorklistRow.since, WorklistRow.id)
    if site is not None:
        query = query.where(WorklistRow.site == site)
    return list(session.scalars(query))


def sites_without_statement(session: Session) -> list[str]:
    """Return the sites of labels for which nobody stated who orders the worklist."""
    stated = select(WorklistRow.site)
    return sorted(
        session.scalars(
            select(ScanRow.site)
            .join(LabelRow, LabelRow.scan == ScanRow.id)
            .where(ScanRow.site.not_in(stated))
            .distinct()
        )
    )


def state_worklist(
    session: Session,
    *,
    site: str,
    ordered_by: str | None,
    since: datetime,
    actor: str,
    at: datetime,
) -> list[LabelRow]:
    """State who orders a site's worklist from a time on; return the labels that this changed.

    Of every label of the site that was signed since then the influence is derived anew.

    Parameters
    ----------
    ordered_by : a model, or a product that is none here; None where no AI does

    Raises
    ------
    LabelError
        If no scan of the site was taken in, or `since` lies in the future.
    """
    require_site(session, site)
    if ordered_by is not None and not _NAME.fullmatch(ordered_by):
        raise LabelError("who orders a worklist has a name of 1 to 64 characters, in one line")
    if since > at:
        raise LabelError(
            f"since {since.isoformat()} lies in the future: state it when it is so",
            problem="future",
        )
    statement = WorklistRow(site=site, ordered_by=ordered_by, since=since, stated_at=at)
    session.add(statement)
    session.flush()
    changed = _derived_anew(session, site, since)
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="worklist.stated",
        subject=site,
        facts={
            "ordered_by": ordered_by,
            "since": since.isoformat(),
            "became_influenced": [row.id for row, now in changed if now],
            "became_free": [row.id for row, now in changed if now is False],
        },
        seals=[statement, *(row for row, _ in changed)],
    )
    return [row for row, now in changed if now is not None]


def _derived_anew(
    session: Session, site: str, since: datetime
) -> list[tuple[LabelRow, bool | None]]:
    """Derive again; each row that was written, and what it is now where that changed."""
    rows = session.scalars(
        select(LabelRow)
        .join(ScanRow, ScanRow.id == LabelRow.scan)
        .where(ScanRow.site == site, LabelRow.signed_at >= since)
        .order_by(LabelRow.id)
    ).all()
    reasons = reasons_for(
        session,
        [
            (
                row.scan,
                row.task,
                row.signed_at,
                row.influence_reason == InfluenceReason.ASSISTED,
            )
            for row in rows
        ],
        site=site,
    )
    written: list[tuple[LabelRow, bool | None]] = []
    for row, reason in zip(rows, reasons, strict=True):
        if row.influence_reason == reason.value:
            continue
        became = None if row.ai_influenced == reason.influenced else reason.influenced
        row.influence_reason, row.ai_influenced = reason.value, reason.influenced
        written.append((row, became))
    return written
