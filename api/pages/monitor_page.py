"""The page of one monitor: is it true, where, why, what happens next, show me."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.pages import states, wording
from api.pages.arrivals import ArrivalsPanel, arrivals_panel
from api.pages.course import Course, course
from api.pages.drift import Drift, drift
from api.pages.explanation import Evidence, Explanation, evidence_of, explain
from api.pages.headline import Headline, headline
from api.pages.judged import JudgedWindow, judged_windows
from api.pages.labelled import Labelled, labelled, labelled_weeks
from api.pages.projection import Projection, projection
from api.pages.standing import NextStep, Standing, standing_of
from api.pages.states import State
from api.pages.subgroup_map import SubgroupMap, subgroup_map
from monitor import references
from monitor.episodes import episodes as monitor_episodes
from monitor.following.standing import Following, following
from monitor.monitors import Monitor, require_monitor
from monitor.references import ProfileStore
from monitor.tables import EpisodeRow
from registry.errors import NotFoundError
from registry.versions import require_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of the strip, with what belongs beside it."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeLine:
    """One episode in the list of all."""

    id: int
    state: State
    cause: str
    where: str
    since: str
    impact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorPage:
    """Everything on a monitor's page."""

    monitor: Monitor
    standing: Standing
    headline: Headline
    action: NextStep | None
    figures: tuple[Figure, ...]
    #: why no stream follows scans where one is wanted
    not_followed: str | None
    drift: Drift | None
    arrivals: ArrivalsPanel
    labelled: Labelled | None
    subgroups: SubgroupMap | None
    projection: Projection | None
    #: the episode that is shown: the one asked for, the open one, or the newest
    episode: Explanation | None
    #: of the window that raised the episode, or the newest one
    evidence: tuple[Evidence, ...]
    evidence_window: str | None
    course: Course | None
    episodes: tuple[EpisodeLine, ...]
    has_reference: bool


def monitor_page(
    session: Session,
    profiles: ProfileStore,
    name: str,
    *,
    episode: int | None,
    now: datetime,
) -> MonitorPage:
    """Return a monitor's page.

    Raises
    ------
    NotFoundError
        If there is no such monitor, or it has no such episode.
    """
    monitor = require_monitor(session, name)
    model = require_model(session, monitor.specification.model)
    standing = standing_of(session, model=model.name, tier=model.tier, monitor=monitor, now=now)
    windows = judged_windows(session, name)
    rows = monitor_episodes.all_episodes(session, name)
    weeks = labelled_weeks(session, name)
    shown = _shown(rows, standing, episode)
    has_reference = bool(references.deciding(session, name))
    window = _window_of(windows, shown)
    followed = following(session, monitor)
    return MonitorPage(
        monitor=monitor,
        standing=standing,
        headline=headline(standing, monitor, windows, rows, weeks, has_reference=has_reference),
        action=standing.next_step if standing.next_step.link else None,
        figures=_figures(standing, monitor, windows, followed),
        not_followed=followed.lacking if has_reference else None,
        drift=drift(session, model.name, windows, rows),
        arrivals=arrivals_panel(session, monitor, now=now),
        labelled=labelled(session, weeks, rows),
        subgroups=subgroup_map(session, name),
        projection=projection(session, profiles, name, windows[-1] if windows else None, shown),
        episode=explain(shown) if shown else None,
        evidence=evidence_of(window) if window else (),
        evidence_window=wording.span(window.window.start, window.window.end)
        if window
        else None,
        course=course(session, shown, model.name, now=now) if shown else None,
        episodes=tuple(_line(row) for row in rows),
        has_reference=has_reference,
    )


def _shown(
    rows: Sequence[EpisodeRow], standing: Standing, wanted: int | None
) -> EpisodeRow | None:
    if wanted is None:
        return standing.episode or (rows[0] if rows else None)
    for row in rows:
        if row.id == wanted:
            return row
    raise NotFoundError(f"this monitor has no episode {wanted}")


def _window_of(
    windows: Sequence[JudgedWindow], episode: EpisodeRow | None
) -> JudgedWindow | None:
    """Return the window that last updated an episode, or the newest one."""
    if episode is not None:
        for item in windows:
            if str(item.window) == episode.evidence.get("window"):
                return item
    return windows[-1] if windows else None


def _figures(
    standing: Standing,
    monitor: Monitor,
    windows: Sequence[JudgedWindow],
    followed: Following,
) -> tuple[Figure, ...]:
    champion = Figure(
        name="Champion",
        value=standing.champion_name or "none",
        beside=f"since {wording.day(standing.champion_since)}"
        if standing.champion_since
        else "promote a version first",
    )
    scan_by_scan = _stream_figures(followed)
    if not windows:
        return (*scan_by_scan, champion)
    newest = windows[-1]
    row = newest.leading
    calibrated = newest.p_value if newest.p_value is not None else row.alarm_p_value
    return (
        Figure(
            name="Effect, newest window",
            value=wording.effect(row.effect),
            beside=f"{wording.effect(row.effect_low)}–{wording.effect(row.effect_high)}",
        ),
        Figure(
            name="p-value, two windows in a row",
            value=wording.p_value(calibrated),
            beside=f"alarm at {wording.p_value(newest.alpha or monitor.specification.block_alpha)}",
        ),
        Figure(
            name="Would have seen",
            value=f"≥ {wording.effect(row.smallest_effect)}",
            beside=f"80 % power, {wording.counted(row.scans, 'scan')}"
            if row.ordinary_effect is None
            else f"ordinary weeks reach {wording.effect(row.ordinary_effect)}",
        ),
        *scan_by_scan,
        champion,
    )


def _stream_figures(followed: Following) -> tuple[Figure, ...]:
    """Return how near an alarm the nearest stream is."""
    if followed.lacking is not None:
        return (Figure(name="Scan by scan", value="not yet", beside="windows watch"),)
    if not followed.streams:
        return ()
    nearest = max(followed.streams, key=lambda one: (one.shifted, one.evidence))
    left = max(one.burn_in_left for one in followed.streams)
    if nearest.shifted:
        value, beside = "shifted", f"{nearest.encoder} encoder"
    elif left:
        value, beside = "burn-in", f"{wording.counted(left, 'scan')} left"
    else:
        value = wording.percent(nearest.evidence)
        beside = f"of an alarm's evidence; false alarms: {followed.false_alarms}"
    return (Figure(name="Scan by scan", value=value, beside=beside),)


def _line(row: EpisodeRow) -> EpisodeLine:
    return EpisodeLine(
        id=row.id,
        state=states.episode_state(row.state),
        cause=wording.cause_name(row.cause),
        where=wording.subgroup_name(row.subgroup),
        since=wording.moment(row.onset),
        impact=row.impact,
    )
