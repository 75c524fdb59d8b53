"""Silence of a monitor's sources: alarms, and what the newest look saw."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel

from api.http.access import READ
from api.http.installation import Installation
from monitor.monitors import require_monitor
from monitor.silence.standing import describe_alarm, silence_standing

router = APIRouter(prefix="/api/v1/monitors", tags=["monitors"])


class SilenceAlarm(BaseModel):
    """A source that sent too little, or too much, from opening to closing."""

    alarm: int
    #: "attribute=value", several joined by " & "; "" for all sources
    subgroup: str
    #: missing, surplus or unstated
    kind: str
    state: str
    #: in one sentence
    says: str
    since: AwareDatetime
    opened_at: AwareDatetime
    #: silent, few, surge or many
    question: str
    #: studies where some are missing, scans where too many came
    expected: float
    received: int
    p_value: float
    #: what the p-value was held against
    alpha: float
    beside_it: str
    #: its days that are listed as holidays
    holidays: list[dt.date]
    #: new sources at the same site since then
    appeared: list[str]
    check_first: list[str]
    closed_at: AwareDatetime | None
    closed_reason: str | None
    #: closed by a person: what it found is ordinary
    accepted: bool


class Source(BaseModel):
    """One source at the newest look."""

    subgroup: str
    #: how many wider sources hold it
    level: int
    #: narrowest sources in it
    sources: int
    silent: bool
    last_scan_at: AwareDatetime
    #: scans of the last 24 hours, and those that an ordinary day brings
    received: int
    expected: float
    scans_a_week: float
    #: by when a stop now would make an alarm; null if it is silent, or that takes over ten days
    noticed_by: AwareDatetime | None


class UnjudgedSource(BaseModel):
    """A source that is new, or gone."""

    subgroup: str
    #: its first scan, or its last
    at: AwareDatetime
    received: int


class HourlyCounts(BaseModel):
    """A source's scans by hour over the last week."""

    subgroup: str
    start: AwareDatetime
    received: list[int]
    expected: list[float]


class ListedHoliday(BaseModel):
    """A day that the monitor's file lists as a holiday."""

    date: dt.date
    #: null for all
    sites: list[str] | None


class Silence(BaseModel):
    """How silence stands with a monitor."""

    monitor: str
    #: off, not looked yet, learning or watching
    watching: str
    looked_at: AwareDatetime | None
    #: the budget, and the alarms of the last quarter, true ones among them
    false_alarms_per_quarter: float | None
    alarms_last_quarter: int
    learnt_days: int | None
    open: list[SilenceAlarm]
    closed: list[SilenceAlarm]
    sources: list[Source]
    new: list[UnjudgedSource]
    gone: list[UnjudgedSource]
    hours: list[HourlyCounts]
    notes: list[str]
    #: the next ones, today's among them
    holidays: list[ListedHoliday]


@router.get("/{name}/silence", summary="Show missing and surplus scans", dependencies=[READ])
def show_silence(name: str, driftward: Installation) -> Silence:
    """Return a monitor's silence alarms, and its sources as the newest look saw them."""
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        monitor = require_monitor(session, name)
        standing = silence_standing(session, monitor, now=now)
    document: dict[str, Any] = standing.document
    return Silence(
        monitor=name,
        watching=standing.watching.value,
        looked_at=standing.looked_at,
        false_alarms_per_quarter=standing.budget,
        alarms_last_quarter=standing.opened_last_quarter,
        learnt_days=document.get("learnt_days"),
        open=[SilenceAlarm(**describe_alarm(row)) for row in standing.open],
        closed=[SilenceAlarm(**describe_alarm(row)) for row in standing.closed],
        sources=[Source(**source) for source in standing.sources],
        new=[UnjudgedSource(**source) for source in document.get("new", [])],
        gone=[UnjudgedSource(**source) for source in document.get("gone", [])],
        hours=[HourlyCounts(**counts) for counts in document.get("hours", [])],
        notes=standing.notes,
        holidays=[
            ListedHoliday(date=day, sites=None if sites is None else list(sites))
            for day, sites in standing.holidays
        ],
    )
