"""Performance on labelled scans, week by week."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.pages import wording
from monitor.performance import performance
from monitor.tables import EpisodeRow, PerformanceRow
from registry.canonical import Json
from registry.versions import VersionRow, ref

MEASURES = ("auc", "sensitivity", "specificity")
TITLES = {"auc": "AUC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWeek:
    """One week in the table; measures with their 95 % intervals."""

    week: str
    version: str
    scans: int
    positives: int
    auc: str
    sensitivity: str
    specificity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The charts' data and the table's rows."""

    chart: dict[str, Json]
    rows: tuple[LabelledWeek, ...]
    #: of a task of several findings: those that are shown
    findings: tuple[str, ...]


def labelled_weeks(session: Session, monitor: str) -> list[PerformanceRow]:
    """Return the newest measurement of each week on all its scans, oldest first.

    Of several findings it is the one that was read worst.
    """
    return performance.of_worst_finding(
        [row for row in performance.newest(session, monitor) if row.subgroup == ""]
    )


def labelled(
    session: Session, weeks: Sequence[PerformanceRow], episodes: Sequence[EpisodeRow]
) -> Labelled | None:
    """Return performance by week, or None while no labels have come."""
    if not weeks:
        return None
    names = {row.version: str(ref(session.get_one(VersionRow, row.version))) for row in weeks}
    chart: dict[str, Json] = {
        "weeks": [
            {
                "at": (row.start + (row.end - row.start) / 2).isoformat(),
                "name": wording.span(row.start, row.end)
                + (f", {row.finding}" if row.finding else ""),
                "start": row.start.isoformat(),
                "version": names[row.version],
                "scans": row.scans,
                **{name: [round(part, 4) for part in row.measures[name]] for name in MEASURES},
            }
            for row in weeks
        ],
        "baseline": _baseline(episodes, {row.finding for row in weeks}),
    }
    rows = tuple(_week(row, names[row.version]) for row in reversed(weeks))
    findings = tuple(sorted({row.finding for row in weeks if row.finding}))
    return Labelled(chart=chart, rows=rows, findings=findings)


def _baseline(episodes: Sequence[EpisodeRow], findings: Collection[str]) -> Json:
    """Return the performance on the reference that an episode was compared with.

    None where weeks are drawn of findings that differ: each has a reference of its own.
    """
    for row in episodes:  # newest first
        impact = row.evidence.get("impact")
        if impact is None:
            continue
        if "findings" in impact:
            [finding, *others] = findings
            impact = impact["findings"].get(finding)
            if others or impact is None:
                return None
        return {name: round(impact["before"][name][0], 4) for name in MEASURES}
    return None


def _week(row: PerformanceRow, version: str) -> LabelledWeek:
    return LabelledWeek(
        week=wording.span(row.start, row.end) + (f", {row.finding}" if row.finding else ""),
        version=version,
        scans=row.scans,
        positives=row.positives,
        auc=wording.with_interval(row.measures["auc"]),
        sensitivity=wording.with_interval(row.measures["sensitivity"]),
        specificity=wording.with_interval(row.measures["specificity"]),
    )
