"""Monitors, their verdicts and what labels said of the champion."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http.access import READ
from api.http.installation import Installation
from api.http.paging import Before, Limit
from monitor import references
from monitor.episodes import episodes
from monitor.monitors import Monitor, all_monitors, require_monitor
from monitor.performance import performance
from monitor.tables import ReferenceRow, VerdictRow
from registry.versions import VersionRow, ref

router = APIRouter(prefix="/api/v1/monitors", tags=["monitors"])


class MonitorInForce(BaseModel):
    """A monitor as its specification stands now."""

    name: str
    model: str
    applied_at: AwareDatetime
    specification: dict[str, Any]
    #: versions whose references can raise an alarm
    references: list[str]
    open_episodes: list[int]


class Detector(BaseModel):
    """One detector's word on a window."""

    p_value: float
    statistic: float
    effect: float


class Verdict(BaseModel):
    """What the detectors say of one window and subgroup against one reference."""

    id: int
    start: AwareDatetime
    end: AwareDatetime
    #: "attribute=value", or "" for all scans
    subgroup: str
    #: whose encoder it was: "monitoring" or "champion"
    encoder: str
    version: str
    #: against the reference of the unbroken trend
    trend: bool
    scans: int
    patients: int
    #: of a shift of any size
    p_value: float
    #: of a shift beyond what ordinary weeks differ by; null if the reference knows no weeks
    week_p_value: float | None
    #: of this window with those before it; None for a subgroup
    persistence_p_value: float | None
    #: standard deviations of the reference, with an interval of 95 %
    effect: float
    effect_low: float
    effect_high: float
    #: that 19 of 20 ordinary weeks stay below; null likewise
    ordinary_effect: float | None
    #: detectable with 80 % power
    smallest_effect: float
    detectors: dict[str, Detector]


class Performance(BaseModel):
    """Performance of one version on the labelled scans of one window."""

    version: str
    start: AwareDatetime
    end: AwareDatetime
    subgroup: str
    #: of a task of several findings: which one
    finding: str
    scans: int
    positives: int
    #: each [estimate, low, high], 95 %
    measures: dict[str, list[float]]


@router.get("", summary="List monitors", dependencies=[READ])
def list_monitors(driftward: Installation) -> list[MonitorInForce]:
    """Return every monitor, by name."""
    with driftward.database.reading() as session:
        return [_monitor(session, monitor) for monitor in all_monitors(session)]


@router.get("/{name}", summary="Show a monitor", dependencies=[READ])
def show_monitor(name: str, driftward: Installation) -> MonitorInForce:
    """Return one monitor."""
    with driftward.database.reading() as session:
        return _monitor(session, require_monitor(session, name))


@router.get("/{name}/verdicts", summary="List verdicts", dependencies=[READ])
def list_verdicts(
    name: str,
    driftward: Installation,
    subgroup: Annotated[
        str | None, Query(description="`attribute=value`; empty for all scans.")
    ] = None,
    before: Before = None,
    limit: Limit = 100,
) -> list[Verdict]:
    """Return a monitor's verdicts, newest first."""
    with driftward.database.reading() as session:
        require_monitor(session, name)
        query = (
            select(VerdictRow, ReferenceRow)
            .join(ReferenceRow, ReferenceRow.id == VerdictRow.reference)
            .where(VerdictRow.monitor == name)
            .order_by(VerdictRow.id.desc())
            .limit(limit)
        )
        if subgroup is not None:
            query = query.where(VerdictRow.subgroup == subgroup)
        if before is not None:
            query = query.where(VerdictRow.id < before)
        rows = session.execute(query)
        return [_verdict(session, verdict, reference) for verdict, reference in rows]


@router.get(
    "/{name}/performance", summary="List performance on labelled scans", dependencies=[READ]
)
def list_performance(name: str, driftward: Installation) -> list[Performance]:
    """Return the newest measurement of each window and subgroup, oldest first."""
    with driftward.database.reading() as session:
        require_monitor(session, name)
        return [
            Performance(
                version=str(ref(session.get_one(VersionRow, row.version))),
                start=row.start,
                end=row.end,
                subgroup=row.subgroup,
                finding=row.finding,
                scans=row.scans,
                positives=row.positives,
                measures=row.measures,
            )
            for row in performance.newest(session, name)
        ]


def _monitor(session: Session, monitor: Monitor) -> MonitorInForce:
    return MonitorInForce(
        name=monitor.name,
        model=monitor.specification.model,
        applied_at=monitor.applied_at,
        specification=monitor.specification.model_dump(mode="json"),
        references=[
            str(ref(session.get_one(VersionRow, row.version)))
            for row in references.deciding(session, monitor.name)
        ],
        open_episodes=[row.id for row in episodes.open_episodes(session, monitor.name)],
    )


def _verdict(session: Session, row: VerdictRow, reference: ReferenceRow) -> Verdict:
    return Verdict(
        id=row.id,
        start=row.start,
        end=row.end,
        subgroup=row.subgroup,
        encoder=reference.encoder,
        version=str(ref(session.get_one(VersionRow, reference.version))),
        trend=reference.trend,
        scans=row.scans,
        patients=row.patients,
        p_value=row.p_value,
        week_p_value=row.week_p_value,
        persistence_p_value=row.persistence_p_value,
        effect=row.effect,
        effect_low=row.effect_low,
        effect_high=row.effect_high,
        ordinary_effect=row.ordinary_effect,
        smallest_effect=row.smallest_effect,
        detectors={
            detector: Detector(**numbers)
            for detector, numbers in row.detail.get("detectors", {}).items()
        },
    )
