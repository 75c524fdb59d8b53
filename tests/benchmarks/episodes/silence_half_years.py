"""The simulated half-year's arrivals through the product's looks at them, without images.

What `simulation.py` plays with images takes some minutes of every seed. Silence looks at arrivals
alone, so these are drawn as that world draws them, hour by hour, and looked at as its worker does,
with alarms that live in memory: many half-years instead of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from simulation_playing import LOOK_HOURS, MONITOR_FILE
from simulation_world import (
    HOLIDAY_WEEK,
    HOUR,
    OUTAGE,
    REFERENCE_WEEKS,
    SCANNERS,
    WEEK,
    WEEKS,
    World,
)

from monitor.silence.alarms import Opening, SilenceState, covers, leaves_of
from monitor.silence.arrivals import Arrived, Key, local_midnight
from monitor.silence.ground import Ground, learnt_since, prepare
from monitor.silence.judging import Judging
from monitor.silence.settings import SilenceSettings
from monitor.statistics.arrivals.looks import ArrivalWatch
from monitor.statistics.arrivals.questions import AlarmBudget
from monitor.tables import SilenceAlarmRow

#: A Monday, as in `simulation.py`.
_START = datetime(2026, 1, 5, tzinfo=UTC)
#: An alarm of the silent scanner may come until so long after it sends again.
_STILL_OUT = 12 * HOUR
HOLIDAY_CASES: Mapping[str, bool] = {"not listed": False, "listed": True}
_KEYS: tuple[Key, ...] = tuple((one.site, one.model, one.station) for one in SCANNERS)


def half_year(key: str) -> dict[str, Any]:
    """Return the alarms of a seed's half-year, and by when its silent scanner was to be noticed."""
    watched = _Watched(
        settings=SilenceSettings.model_validate(_settings()),
        world=World(seed=int(key.rpartition("/")[2]), start=_START),
    )
    for hours in range(LOOK_HOURS, WEEKS * round(WEEK / HOUR) + 1, LOOK_HOURS):
        watched.look(_START + hours * HOUR)
    return {"promised_hours": watched.promised, "alarms": [_told(row) for row in watched.rows]}


def holiday_week(key: str) -> dict[str, Any]:
    """Return the false alarms of the holiday week, and when a scanner that dies in it showed."""
    _, case, seed = key.split("/")
    week = _START + (HOLIDAY_WEEK - 1) * WEEK
    days = [{"from": f"{week:%Y-%m-%d}", "to": f"{week + WEEK:%Y-%m-%d}"}]
    settings = SilenceSettings.model_validate(
        {**_settings(), "holidays": days if HOLIDAY_CASES[case] else []}
    )
    death = week + OUTAGE.begins % WEEK
    alarms: list[list[dict[str, Any]]] = []
    for dies_at in (None, death):
        watched = _Watched(
            settings=settings, world=World(seed=int(seed), start=_START), dies_at=dies_at
        )
        for hours in range(LOOK_HOURS, 2 * round(WEEK / HOUR) + 1, LOOK_HOURS):
            watched.look(week - WEEK + hours * HOUR)
        alarms.append([_told(row) for row in watched.rows if row.opened_at >= week])
    seen = [one for one in alarms[1] if one["scanners"] == [OUTAGE.station]]
    opened = [datetime.fromisoformat(one["opened"]) for one in seen]
    after = [(at - death) / HOUR for at in opened if at >= death]
    return {"false_alarms": len(alarms[0]), "hours": after[0] if after else None}


def _settings() -> dict[str, Any]:
    silence = MONITOR_FILE["silence"]
    return dict(silence) if isinstance(silence, dict) else {}


def _told(row: SilenceAlarmRow) -> dict[str, Any]:
    stations = sorted(leaf[-1] or "" for leaf in leaves_of(row))
    after = (row.opened_at - (_START + OUTAGE.begins)) / HOUR
    out = 0 <= after < (OUTAGE.ends + _STILL_OUT - OUTAGE.begins) / HOUR
    holiday = _START + (HOLIDAY_WEEK - 1) * WEEK
    return {
        "scanners": stations,
        "kind": row.kind,
        "question": row.evidence["question"],
        "opened": row.opened_at.isoformat(),
        "after_hours": after if out else None,
        "right": out and stations == [OUTAGE.station] and row.kind == "missing",
        "holiday": holiday <= row.opened_at < holiday + WEEK,
        "p_value": row.p_value,
        "alpha": row.alpha,
    }


def half_year_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of half-years."""
    of = [row for row in rows if row["key"].startswith("half-year/")]
    if not of:
        return []
    false = [[one for one in row["alarms"] if not one["right"]] for row in of]
    counts = np.array([len(one) for one in false], dtype=float)
    error = np.sqrt(max(counts.var(ddof=1) if len(of) > 1 else 0.0, 1 / len(of)) / len(of))
    right = [[one for one in row["alarms"] if one["right"]] for row in of]
    hours = sorted(one[0]["after_hours"] for one in right if one)
    # The look that follows the moment is in time.
    kept = [
        one[0]["after_hours"] <= row["promised_hours"] + LOOK_HOURS
        for one, row in zip(right, of, strict=True)
        if one
    ]
    holiday = sum(one["holiday"] for alarms in false for one in alarms)
    return [
        "",
        f"The arrivals of *Half a year of three sites* alone, {len(of)} seeds; one false alarm a "
        "quarter, so two in each half-year, may be expected:",
        "",
        "| half-years | false alarms in each (± s.e.) | with 0, 1, 2, 3, more | of these in the "
        "unlisted holiday week, of 26 | dead scanner noticed | hours: median (10–90 %) | by when "
        "it was promised |",
        "|---|---|---|---|---|---|---|",
        f"| {len(of)} | {counts.mean():.2f} ± {error:.2f} | "
        f"{', '.join(str(int((counts == n).sum())) for n in range(4))}, "
        f"{int((counts > 3).sum())} | {holiday} of {int(counts.sum())} | {len(hours)} | "
        f"{np.median(hours):.0f} ({np.quantile(hours, 0.1):.0f}–{np.quantile(hours, 0.9):.0f}) | "
        f"{np.mean(kept):.0%} |",
        *_holiday_lines(rows),
    ]


def _holiday_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "",
        f"Its holiday week, in which everybody sends a third, and {OUTAGE.station} dying on its "
        "Tuesday at midnight:",
        "",
        "| the week is | half-years | false alarms in it | dead scanner noticed in it | hours: "
        "median (10–90 %) |",
        "|---|---|---|---|---|",
    ]
    for case in HOLIDAY_CASES:
        of = [row for row in rows if row["key"].startswith(f"holiday-week/{case}/")]
        if not of:
            continue
        hours = sorted(np.inf if row["hours"] is None else row["hours"] for row in of)
        low, middle, high = (
            f"{at:.0f}" if np.isfinite(at := hours[int(q * (len(of) - 1) + 0.5)]) else "later"
            for q in (0.1, 0.5, 0.9)
        )
        lines.append(
            f"| {case} | {len(of)} | {sum(row['false_alarms'] for row in of)} | "
            f"{sum(row['hours'] is not None for row in of)} | {middle} ({low}–{high}) |"
        )
    return lines


@dataclass(kw_only=True)
class _Watched:
    """One world's arrivals, and the alarms that looks at them opened."""

    settings: SilenceSettings
    world: World
    #: from when on the scanner of the outage sends nothing, besides
    dies_at: datetime | None = None
    rows: list[SilenceAlarmRow] = field(default_factory=list)
    #: after how many hours a stop of the scanner that stops would show, as said when it did
    promised: float | None = None
    _learnt: tuple[object, ArrivalWatch] | None = None

    def __post_init__(self) -> None:
        sent = [
            # A file is taken in at the end of its hour.
            (_START + ((visit.at - _START) // HOUR + 1) * HOUR, SCANNERS.index(visit.scanner))
            for week in (*REFERENCE_WEEKS, *range(WEEKS))
            for visit in self.world.visits(week)
            if visit.scanner.station != OUTAGE.station
            or self.dies_at is None
            or visit.at < self.dies_at
        ]
        self._at = np.array([at.timestamp() for at, _ in sent])
        self._scanner = np.array([scanner for _, scanner in sent], dtype=np.int64)

    def look(self, now: datetime) -> None:
        """Look once, as the worker does."""
        since = learnt_since(now, self.settings, self.rows)
        ground = prepare(
            self._arrived(since, now), self.rows, self.settings, since=since, now=now
        )
        if ground is None or ground.named is None:
            raise RuntimeError("twelve weeks came before the first look, and nothing is learnt")
        judging = Judging(
            ground=ground,
            named=ground.named,
            watch=self._watch(ground, since, now),
            settings=self.settings,
            alarms=[row for row in self.rows if row.state == SilenceState.OPEN],
            on_the_hour=True,
        )
        if now == _START + OUTAGE.begins:
            place = next(
                n
                for n, members in enumerate(ground.named.sources.members)
                if [ground.named.leaves[leaf][-1] for leaf in np.flatnonzero(members)]
                == [OUTAGE.station]
            )
            self.promised = judging.look.hours_until_noticed(
                place, in_alarm=ground.named.leaf_places([])
            )
        openings, closings = judging.changes()
        for closing in closings:
            self._close(closing.alarm, closing.reason, now)
        for opening in openings:
            self._open(opening, now)

    def _arrived(self, since: datetime, now: datetime) -> Arrived:
        inside = slice(*np.searchsorted(self._at, [since.timestamp(), now.timestamp()]))
        key = self._scanner[inside]
        present = np.unique(key)
        return Arrived(
            at=self._at[inside],
            key=np.searchsorted(present, key),
            begins_study=np.ones(len(key), dtype=np.bool_),
            keys=tuple(_KEYS[place] for place in present),
            lately=frozenset(),
            newest_scan=0,
        )

    def _watch(self, ground: Ground, since: datetime, now: datetime) -> ArrivalWatch:
        named = ground.named
        if named is None:
            raise RuntimeError("twelve weeks came before the first look, and nothing is learnt")
        key = (
            since,
            local_midnight(now, self.settings.zone),
            named.leaves,
            [(row.id, row.state) for row in self.rows],
        )
        if self._learnt is None or self._learnt[0] != key:
            budget = AlarmBudget(
                false_alarms=self.settings.false_alarms_per_quarter,
                looks_an_hour=60 / self.settings.look_every_minutes,
            )
            past = (ground.past(studies=studies) for studies in (True, False))
            self._learnt = key, ArrivalWatch.learn(*past, named.sources, budget)
        return self._learnt[1]

    def _open(self, opening: Opening, now: datetime) -> None:
        still_open = [row for row in self.rows if row.state == SilenceState.OPEN]
        if any(
            row.id not in opening.absorbs and covers(row, opening.leaves) for row in still_open
        ):
            return
        number = len(self.rows) + 1
        self.rows.append(
            SilenceAlarmRow(
                id=number,
                subgroup=opening.subgroup,
                kind=opening.kind.value,
                state=SilenceState.OPEN.value,
                since=opening.since,
                opened_at=now,
                p_value=opening.p_value,
                alpha=opening.alpha,
                evidence={
                    "question": opening.question,
                    "absorbs": list(opening.absorbs),
                    "leaves": [list(leaf) for leaf in opening.leaves],
                },
                accepted=False,
            )
        )
        for part in opening.absorbs:
            self._close(part, f"part of alarm {number}", now)

    def _close(self, number: int, reason: str, now: datetime) -> None:
        row = self.rows[number - 1]
        if row.state == SilenceState.OPEN:
            row.state, row.closed_at = SilenceState.CLOSED.value, now
            row.closed_reason = reason
