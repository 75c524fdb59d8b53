"""Which streams a monitor has: one for each deciding reference, begun and ended as these are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import references
from monitor.assembling.counting import unit_watched
from monitor.episodes.episodes import open_episodes
from monitor.following import kept, shifts
from monitor.following.budget import StreamBudget, budget_of, measured_scans_a_day
from monitor.following.settings import StreamSettings
from monitor.monitors import Monitor
from monitor.tables import ReferenceRow, ScanRow, StreamRow
from registry.identities import SYSTEM

#: How often scans are looked for at most, since a look rewrites the state, unless so many wait.
LOOK_EVERY = timedelta(minutes=10)
MANY_SCANS = 64


def following_is_due(session: Session, monitor: Monitor, *, now: datetime) -> bool:
    """Return whether streams have something to do: begin, end, or see scans."""
    streams = kept.running(session, monitor.name)
    if monitor.specification.stream is None:
        return bool(streams)
    deciding = {row.id for row in references.deciding(session, monitor.name)}
    followed = {row.reference for row in streams}
    if followed - deciding:
        return True
    if deciding - followed:
        return may_begin(session, monitor)
    if not streams:
        return False
    newest = min(row.newest_scan for row in streams)
    soon = timedelta(0) <= now - max(row.looked_at for row in streams) < LOOK_EVERY
    unit = unit_watched(session, monitor)
    waiting = select(ScanRow.id).where(ScanRow.id > newest, ScanRow.unit == unit.value)
    skipped = MANY_SCANS if soon else 0
    return session.scalars(waiting.offset(skipped).limit(1)).first() is not None


def may_begin(session: Session, monitor: Monitor) -> bool:
    """Return whether a stream may begin: not to learn an open episode's shift as ordinary."""
    settings = monitor.specification.stream
    if settings is None:
        return False
    return settings.burn_in_scans == 0 or not open_episodes(session, monitor.name)


def arrange(session: Session, monitor: Monitor, *, now: datetime) -> list[StreamRow]:
    """End the streams that are to end, begin those that lack, and return those that run."""
    settings = monitor.specification.stream
    deciding = {row.id: row for row in references.deciding(session, monitor.name)}
    beginning = may_begin(session, monitor)
    for row in kept.running(session, monitor.name):
        if settings is None:
            _end(session, row, "the monitor follows no streams any longer", now)
        elif row.reference not in deciding:
            _end(session, row, "its reference was replaced by another", now)
        elif not beginning and row.scans < row.burn_in:
            _end(session, row, "an episode opened during its burn-in", now)
    if settings is None:
        return []
    streams = kept.running(session, monitor.name)
    counted = _counting(session, monitor, now)
    for row in streams:
        budget = _budget(settings, deciding, row.reference, counted, before=row)
        row.scans_between_false_alarms = budget.scans_between_false_alarms
        row.scans_a_day, row.measured = budget.scans_a_day, budget.measured
        row.looked_at = now
    followed = {row.reference for row in streams}
    for reference in deciding.values():
        if reference.id not in followed and beginning:
            budget = _budget(settings, deciding, reference.id, counted)
            streams.append(
                kept.begin(session, monitor.name, reference, budget, actor=SYSTEM.name, at=now)
            )
    return streams


def _budget(
    settings: StreamSettings,
    deciding: dict[int, ReferenceRow],
    reference: int,
    counted: Callable[[ReferenceRow], float],
    *,
    before: StreamRow | None = None,
) -> StreamBudget:
    return budget_of(
        settings,
        deciding[reference],
        streams=len(deciding),
        counted=counted,
        rate_before=before.scans_a_day if before is not None and before.measured else None,
    )


def _counting(
    session: Session, monitor: Monitor, now: datetime
) -> Callable[[ReferenceRow], float]:
    """Return what counts scans a day, once for all references on the same scans."""
    known: dict[int, float] = {}

    def counted(reference: ReferenceRow) -> float:
        if reference.dataset not in known:
            known[reference.dataset] = measured_scans_a_day(
                session, monitor, reference, now=now
            )
        return known[reference.dataset]

    return counted


def _end(session: Session, row: StreamRow, reason: str, now: datetime) -> None:
    kept.end(session, row, reason=reason, actor=SYSTEM.name, at=now)
    shifts.end(
        session,
        row.monitor,
        row.id,
        reason=f"no longer followed scan by scan: {reason}",
        ended_at=now,
        actor=SYSTEM.name,
        at=now,
    )
