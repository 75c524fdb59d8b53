"""Which candidates read beside a champion, since when, and how much both have read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from monitor import parts
from monitor.assembling.counting import not_withdrawn
from monitor.embedding.embedding_plan import ShadowVersion
from monitor.tables import ResultRow, ScanRow
from registry import serving
from registry.ledger import LedgerEntry
from registry.versions import VersionRow
from retrain.states import RunState
from retrain.tables import RunRow


def runs_in_shadow(session: Session, model: str | None = None) -> list[RunRow]:
    """Return the runs in shadow, oldest first."""
    query = select(RunRow).where(RunRow.state == RunState.SHADOW.value).order_by(RunRow.id)
    if model is not None:
        query = query.where(RunRow.model == model)
    return list(session.scalars(query))


def in_shadow(session: Session, model: str) -> Sequence[ShadowVersion]:
    """Return the candidates that read beside a model's champion; `NamesShadows` of embedding.

    One whose champion was replaced is none of them: its run ends at the next tick.
    """
    champion = serving.champion(session, model)
    found: list[ShadowVersion] = []
    for run in runs_in_shadow(session, model):
        since = shadow_since(session, run)
        if champion is None or run.champion_before != champion.id or since is None:
            continue
        candidate = session.get_one(VersionRow, run.candidate)
        found.append(ShadowVersion(version=candidate, since=since))
    return found


def shadow_since(session: Session, run: RunRow) -> datetime | None:
    """Return when a run went into shadow, or None where it never did.

    The ledger says it: a run's own time changes with whatever is noted of it.
    """
    return session.scalar(
        select(LedgerEntry.recorded_at)
        .where(LedgerEntry.subject == f"run {run.id}", LedgerEntry.kind == "run.shadow")
        .order_by(LedgerEntry.sequence)
        .limit(1)
    )


def arrived_within(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of scans that a shadow is about."""
    return (ScanRow.arrived_at >= since, ScanRow.arrived_at < until, not_withdrawn())


def count_read(
    session: Session, run: RunRow, *, since: datetime, until: datetime, by_both: bool
) -> int:
    """Count the scans of a span that the champion read, or that the candidate read, too."""
    mine = aliased(ResultRow)
    task = run.settings["task"]
    query = (
        select(func.count(ResultRow.id))
        .join(ScanRow, ScanRow.id == ResultRow.scan)
        .where(
            ResultRow.version == run.champion_before,
            ResultRow.task == task,
            *arrived_within(since, until),
            *parts.of_arrivals(session, ResultRow.scan, since=since, until=until),
        )
    )
    if by_both:
        query = query.where(
            exists().where(
                mine.scan == ResultRow.scan, mine.version == run.candidate, mine.task == task
            )
        )
    return session.scalar(query) or 0
