"""The overview: every model, how it stands, and whom it needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.arrivals import silence_mark
from api.pages.judged import judged_windows
from api.pages.labelled import labelled_weeks
from api.pages.lately import Happening, lately
from api.pages.sparklines import Sparkline, sparkline
from api.pages.standing import Standing, monitored_by, standing_of
from api.pages.states import Tone
from monitor.monitors import Monitor
from monitor.silence.alarms import open_alarms
from monitor.tables import EpisodeRow, ScanRow
from registry.versions import ModelRow, VersionRow
from retrain.states import RunState
from retrain.tables import RunRow

RECENT = timedelta(hours=24)
#: General first, so that a table reads from the base to what is derived from it.
TIER_ORDER = {"general": 0, "modality": 1, "organ": 2, "task": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Scans as they come in."""

    total: int
    recent: int
    sites: int
    newest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One model in the table."""

    standing: Standing
    #: the champion, or failing that the newest version
    version: str
    sparkline: Sparkline | None
    #: of the newest judged window
    window_scans: int | None
    window: str | None
    #: of the newest labelled week, with its interval
    sensitivity: str | None
    positives: int | None
    #: which of its sources are silent or send too much, in a few words
    silence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The overview."""

    headline: str
    rows: tuple[FleetRow, ...]
    arrivals: Arrivals
    open_episodes: int
    silence_alarms: int
    awaiting_approval: int
    lately: tuple[Happening, ...]


def fleet(session: Session, *, now: datetime) -> Fleet:
    """Return the overview as of `now`."""
    rows: list[FleetRow] = []
    for model in _models(session):
        monitors: list[Monitor | None] = [*monitored_by(session, model.name)]
        rows += [_row(session, model, monitor, now) for monitor in monitors or [None]]
    arrivals = arrivals_until(session, now)
    return Fleet(
        headline=_headline(rows, arrivals),
        rows=tuple(rows),
        arrivals=arrivals,
        open_episodes=_count(session, select(EpisodeRow.id).where(EpisodeRow.state == "open")),
        silence_alarms=len(open_alarms(session)),
        awaiting_approval=_count(
            session, select(RunRow.id).where(RunRow.state == RunState.AWAITING_APPROVAL)
        ),
        lately=lately(session),
    )


def arrivals_until(session: Session, now: datetime) -> Arrivals:
    """Return how many scans there are, and how many of them are recent."""
    total, sites, newest = session.execute(
        select(
            func.count(ScanRow.id),
            func.count(ScanRow.site.distinct()),
            func.max(ScanRow.arrived_at),
        ).where(ScanRow.unit == "instance")
    ).one()
    recent = session.scalar(
        select(func.count(ScanRow.id)).where(
            ScanRow.unit == "instance",
            ScanRow.arrived_at > now - RECENT,
            ScanRow.arrived_at <= now,
        )
    )
    return Arrivals(total=total, recent=recent or 0, sites=sites, newest_at=newest)


def _models(session: Session) -> list[ModelRow]:
    rows = session.scalars(select(ModelRow).order_by(ModelRow.name)).all()
    return sorted(rows, key=lambda row: (-TIER_ORDER.get(row.tier, 0), row.name))


def _row(session: Session, model: ModelRow, monitor: Monitor | None, now: datetime) -> FleetRow:
    standing = standing_of(session, model=model.name, tier=model.tier, monitor=monitor, now=now)
    windows = judged_windows(session, monitor.name) if monitor else []
    newest = windows[-1] if windows else None
    measured = labelled_weeks(session, monitor.name) if monitor else []
    last = measured[-1] if measured else None
    return FleetRow(
        standing=standing,
        version=_version(session, standing),
        sparkline=sparkline(windows),
        window_scans=newest.leading.scans if newest else None,
        window=f"to {wording.day(newest.window.end)}" if newest else None,
        sensitivity=wording.with_interval(last.measures["sensitivity"]) if last else None,
        positives=last.positives if last else None,
        silence=silence_mark(session, monitor, now=now) if monitor else None,
    )


def _version(session: Session, standing: Standing) -> str:
    if standing.champion is not None:
        return f"version {standing.champion.number}"
    newest = session.scalar(
        select(func.max(VersionRow.number)).where(VersionRow.model == standing.model)
    )
    return f"version {newest}, not in use" if newest else "no version yet"


def _headline(rows: list[FleetRow], arrivals: Arrivals) -> str:
    if not rows:
        return "No model is registered yet."
    models = wording.counted(len({row.standing.model for row in rows}), "model")
    where = f" at {wording.counted(arrivals.sites, 'site')}" if arrivals.sites else ""
    needing = {
        row.standing.model
        for row in rows
        if row.standing.next_step.urgent
        or row.standing.state.tone is Tone.ALERT
        or row.silence is not None
    }
    if not needing:
        return f"{models}{where}. None needs you now."
    if len(needing) == 1:
        return f"{models}{where}. One needs you now: {needing.pop()}."
    return f"{models}{where}. {len(needing)} need you now."


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0
