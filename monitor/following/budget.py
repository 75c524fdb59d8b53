"""A monitor's false-alarm budget in scans, and what each of its streams gets of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from monitor.alarm_budget import scans_between_false_alarms
from monitor.assembling.counting import read_as, unit_watched
from monitor.following.settings import StreamSettings
from monitor.monitors import Monitor
from monitor.streams import LEAST_BUDGET
from monitor.tables import DatasetMember, ReferenceRow, RefusalRow, ScanRow

#: Of the past, whose scans are counted where nobody says how many come.
MEASURED = timedelta(weeks=4)
BURN_IN = timedelta(weeks=5)
#: A rate that was measured anew takes the old one's place where it differs by this factor.
RATE_CHANGE = 1.25
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBudget:
    """What one stream of a monitor may do."""

    #: mean number of scans to a false alarm
    scans_between_false_alarms: int
    scans_a_day: float
    #: whether these were counted; else the monitor's file states them
    measured: bool
    burn_in: int


def budget_of(
    settings: StreamSettings,
    reference: ReferenceRow,
    *,
    streams: int,
    counted: Callable[[ReferenceRow], float],
    rate_before: float | None = None,
) -> StreamBudget:
    """Return the budget of one of a monitor's streams.

    The monitor's is shared: of k streams, each may alarm once in k times as many scans. One
    that is too small to be kept becomes the smallest that can.

    Parameters
    ----------
    streams : of the monitor, one for each deciding reference
    counted : returns what `measured_scans_a_day` does; asked where no rate is stated
    rate_before : that was measured before; it stays unless it changed much
    """
    rate, measured = settings.scans_a_day, settings.scans_a_day is None
    if rate is None:
        rate = counted(reference)
        if rate_before is not None and 1 / RATE_CHANGE < rate / rate_before < RATE_CHANGE:
            rate = rate_before
    scans = scans_between_false_alarms(settings.false_alarms, scans_a_day=rate)
    burn_in = settings.burn_in_scans
    return StreamBudget(
        scans_between_false_alarms=streams * max(scans, LEAST_BUDGET),
        scans_a_day=rate,
        measured=measured,
        burn_in=round(rate * (BURN_IN / _DAY)) if burn_in is None else burn_in,
    )


def measured_scans_a_day(
    session: Session, monitor: Monitor, reference: ReferenceRow, *, now: datetime
) -> float:
    """Return how many scans came a day over the last weeks, or failing that in the reference.

    Days without scans count; the first is that of the first scan. Always above 0.
    """
    refused = exists().where(
        RefusalRow.scan == ScanRow.id, RefusalRow.model == monitor.specification.model
    )
    count, first = session.execute(
        select(func.count(ScanRow.id), func.min(ScanRow.arrived_at)).where(
            ScanRow.arrived_at > now - MEASURED,
            ScanRow.arrived_at <= now,
            read_as(unit_watched(session, monitor)),
            ~refused,
        )
    ).one()
    if count:
        return float(count / max(1.0, (now - first) / _DAY))
    count, first, last = session.execute(
        select(
            func.count(ScanRow.id), func.min(ScanRow.arrived_at), func.max(ScanRow.arrived_at)
        )
        .join(DatasetMember, DatasetMember.scan == ScanRow.id)
        .where(DatasetMember.dataset == reference.dataset)
    ).one()
    return float(count / max(1.0, (last - first) / _DAY))
