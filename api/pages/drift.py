"""Drift over time: the chart of a monitor's windows, and the table behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.judged import JudgedWindow
from monitor.tables import EpisodeRow, VerdictRow
from registry import serving
from registry.canonical import Json
from registry.versions import VersionRow, ref

#: Bands that may lie on each other in the chart.
_MOST_BANDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRow:
    """One window in the table."""

    window: str
    scans: int
    champion: str
    champion_effect: str
    champion_p: str
    trend_effect: str
    trend_p: str
    smallest_effect: str
    alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The chart's data and the table's rows."""

    chart: dict[str, Json]
    rows: tuple[DriftRow, ...]


def drift(
    session: Session,
    model: str,
    windows: Sequence[JudgedWindow],
    episodes: Sequence[EpisodeRow],
) -> Drift | None:
    """Return the drift of a monitor's windows, or None before the first."""
    if not windows:
        return None
    names = _version_names(session, windows)
    first, last = windows[0].window.start, windows[-1].window.end
    promotions: list[Json] = [
        {
            "at": reign.since.isoformat(),
            "version": str(ref(session.get_one(VersionRow, reign.version))),
        }
        for reign in serving.reigns(session, model, serving.EVERYWHERE)
        if first < reign.since <= last
    ]
    chart: dict[str, Json] = {
        "windows": [_point(item, names) for item in windows],
        "promotions": promotions,
        "episodes": _bands([row for row in episodes if row.onset < last], first, last),
    }
    return Drift(chart=chart, rows=tuple(_row(item, names) for item in reversed(windows)))


def _bands(episodes: Sequence[EpisodeRow], first: datetime, last: datetime) -> list[Json]:
    """Return the bands of episodes within the chart's ends.

    Of bands that lie on each other only two can be read: where more do, they are one.
    """

    def band(rows: Sequence[EpisodeRow], label: str) -> Json:
        return {
            "id": rows[0].id,
            "start": max(rows[0].onset, first).isoformat(),
            "end": max(min(row.closed_at or last, last) for row in rows).isoformat(),
            "label": label,
            "open": rows[0].closed_at is None,
        }

    bands: list[Json] = []
    for together in _overlapping(episodes, last):
        if len(together) > _MOST_BANDS:
            state = "open" if together[0].closed_at is None else "ended"
            bands.append(band(together, f"{len(together)} episodes, {state}"))
            continue
        for row in together:
            ended = "" if row.state == "open" else f", {row.state}"
            bands.append(band([row], f"episode {row.id} · {row.cause}{ended}"))
    return bands


def _overlapping(episodes: Sequence[EpisodeRow], last: datetime) -> list[list[EpisodeRow]]:
    """Return episodes in groups that overlap, open ones apart from ended ones, oldest first."""
    groups: list[list[EpisodeRow]] = []
    for row in sorted(episodes, key=lambda row: (row.closed_at is None, row.onset, row.id)):
        newest = groups[-1] if groups else []
        if newest and any(
            (one.closed_at is None) == (row.closed_at is None)
            and row.onset < (one.closed_at or last)
            for one in newest
        ):
            newest.append(row)
        else:
            groups.append([row])
    return groups


def _version_names(session: Session, windows: Sequence[JudgedWindow]) -> dict[int, str]:
    ids = {item.champion_version for item in windows if item.champion_version is not None}
    return {number: str(ref(session.get_one(VersionRow, number))) for number in ids}


def _point(item: JudgedWindow, names: Mapping[int, str]) -> Json:
    middle = item.window.start + (item.window.end - item.window.start) / 2
    return {
        "at": middle.isoformat(),
        "start": item.window.start.isoformat(),
        "end": item.window.end.isoformat(),
        "name": wording.span(item.window.start, item.window.end),
        "champion": _numbers(item.champion),
        "version": names.get(item.champion_version or 0),
        "trend": _numbers(item.trend),
        "smallest": round(item.leading.smallest_effect, 4),
        "alarm": item.alarm,
    }


def _numbers(row: VerdictRow | None) -> Json:
    if row is None:
        return None
    return {
        "effect": round(row.effect, 4),
        "low": round(row.effect_low, 4),
        "high": round(row.effect_high, 4),
        "p": wording.p_value(row.alarm_p_value),
    }


def _row(item: JudgedWindow, names: Mapping[int, str]) -> DriftRow:
    return DriftRow(
        window=wording.span(item.window.start, item.window.end),
        scans=item.leading.scans,
        champion=names.get(item.champion_version or 0, "–"),
        champion_effect=effect_with_interval(item.champion),
        champion_p=wording.p_value(item.champion.alarm_p_value) if item.champion else "–",
        trend_effect=effect_with_interval(item.trend),
        trend_p=wording.p_value(item.trend.alarm_p_value) if item.trend else "–",
        smallest_effect=wording.effect(item.leading.smallest_effect),
        alarm=item.alarm,
    )


def effect_with_interval(row: VerdictRow | None) -> str:
    """Return an effect with its 95 % interval."""
    if row is None:
        return "–"
    low, high = wording.effect(row.effect_low), wording.effect(row.effect_high)
    return f"{wording.effect(row.effect)} ({low}–{high})"
