"""What a look at arrivals saw, as a document: sources, counts by hour, what is new or gone."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

from monitor.silence.alarms import Closing, Opening, leaves_of
from monitor.silence.arrivals import Key, name_of
from monitor.silence.ground import Ground
from monitor.silence.judging import Judging
from monitor.silence.settings import SilenceSettings
from monitor.statistics.arrivals.learning import LEAST_WEEKS
from registry.canonical import Json

DAY = 24.0
CHART_HOURS = 168
#: Sources whose counts by hour are kept besides those of all.
_CHARTS = 3


def learning_document(
    ground: Ground | None, settings: SilenceSettings, notes: Sequence[str]
) -> dict[str, Json]:
    """Return the document of a look that could judge nothing yet."""
    return {
        "state": "learning",
        "learnt_days": 0 if ground is None else ground.learnt_days,
        "needed_days": 7 * LEAST_WEEKS,
        "budget": settings.false_alarms_per_quarter,
        "notes": list(notes),
    }


def look_document(
    judging: Judging,
    openings: Sequence[Opening],
    closings: Sequence[Closing],
    notes: Sequence[str],
) -> dict[str, Json]:
    """Return the document of a look."""
    ground, named = judging.ground, judging.named
    closed = {item.alarm for item in closings}
    covered = {leaf for item in openings for leaf in item.leaves}
    covered |= {
        leaf for row in judging.alarms if row.id not in closed for leaf in leaves_of(row)
    }
    alarming = [item.subgroup for item in openings]
    alarming += [row.subgroup for row in judging.alarms if row.id not in closed]
    shown = [""] + [name for name in dict.fromkeys(alarming) if name and name in named.names]
    sources: list[Json] = []
    for source, name in enumerate(named.names):
        members = named.sources.members[source]
        leaves = [leaf for leaf, of in zip(named.leaves, members, strict=True) if of]
        silent = set(leaves) <= covered
        sources.append(
            {
                "subgroup": name,
                "level": int(named.sources.levels[source]),
                "sources": len(leaves),
                "silent": silent,
                "last_scan_at": _iso(ground, judging.look.last_arrival(members)),
                "received": int(_received(ground, members, ground.now - DAY, ground.now)),
                "expected": round(
                    float(judging.look.scans.expected(members, ground.now - DAY, ground.now)), 1
                ),
                "scans_a_week": round(float(judging.watch.scans.weekly[members].sum()), 1),
                "noticed_by": None if silent else _noticed_by(judging, source, covered),
            }
        )
    every = list(notes)
    if ground.beyond:
        every.append(
            f"{ground.beyond} smaller sources are not watched: there are more than "
            f"{len(named.leaves)}"
        )
    return {
        "state": "watching",
        "learnt_days": ground.learnt_days,
        "needed_days": 7 * LEAST_WEEKS,
        "budget": judging.settings.false_alarms_per_quarter,
        "exceptional_days": round(judging.watch.studies.shared.exceptional_share, 4),
        "sources": sources,
        "hours": [_hours(judging, name) for name in shown[: 1 + _CHARTS]],
        "new": _named(judging, ground.new),
        "gone": _named(judging, ground.gone),
        "notes": list(every),
    }


def _named(judging: Judging, hours: dict[tuple[str | None, ...], float]) -> list[Json]:
    """Return sources with their first or last scan, and what they sent over the last day."""
    ground = judging.ground
    return [
        {
            "subgroup": name_of(key, judging.settings.attributes),
            "at": _iso(ground, at),
            "received": int(np.sum(ground.times_of(key) > ground.now - DAY)),
        }
        for key, at in sorted(hours.items(), key=lambda item: -item[1])
    ]


def _received(
    ground: Ground, members: npt.NDArray[np.bool_], start: float, end: float
) -> float:
    """Return scans between two hours, those of an alarm's hours among them."""
    inside = (ground.times > start) & (ground.times <= end) & members[ground.leaf]
    return float(inside.sum())


def _hours(judging: Judging, name: str) -> Json:
    """Return a source's scans by hour over the last week, received and expected."""
    ground = judging.ground
    members = judging.named.sources.members[judging.named.names.index(name)]
    end = int(np.ceil(ground.now))
    start = max(0, end - CHART_HOURS)
    mine = ground.times[members[ground.leaf] & (ground.times <= ground.now)]
    received, _ = np.histogram(mine, bins=np.arange(start, end + 1))
    hourly = judging.watch.scans.expected(ground.calendar, ground.holidays)
    expected = hourly[start:end, members].sum(axis=1)
    return {
        "subgroup": name,
        "start": _iso(ground, float(start)),
        "received": [int(count) for count in received],
        "expected": [round(float(value), 2) for value in expected],
    }


def _noticed_by(judging: Judging, source: int, covered: Set[Key]) -> str | None:
    """Return by when a stop now would make an alarm, or None if not within the calendar."""
    in_alarm = judging.named.leaf_places(covered)
    hours = judging.look.hours_until_noticed(source, in_alarm=in_alarm)
    if not np.isfinite(hours):
        return None
    return _iso(judging.ground, judging.ground.now + hours)


def _iso(ground: Ground, hours: float) -> str:
    return ground.clock.moment(hours).isoformat(timespec="seconds")
