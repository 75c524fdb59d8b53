"""A scanner that dies in the night before a holiday: how soon it is noticed, listed or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from arrival_worlds import Dip, hospital_group
from silence_quarters import LEARNT_WEEKS, Quarter, lived, silenced

from monitor.statistics.arrivals.model import Arrivals

#: A Wednesday on which everybody is at rest, or which is as any other.
_HOLIDAY = LEARNT_WEEKS * 7 + 2
CASES: Mapping[str, tuple[bool, bool]] = {
    "an ordinary Wednesday": (False, False),
    "a holiday that is not listed": (True, False),
    "a listed holiday": (True, True),
    "listed, and all work": (False, True),
}
#: Studies a working day of the scanner that dies.
RATES = (12, 60)
_BUDGET = 1.0


def holiday(key: str) -> dict[str, Any]:
    """Return the false alarms of a week with a holiday, and when a death before it showed."""
    _, case, rate, index = key.split("/")
    kept, listed = CASES[case]
    rest = Dip(weeks=(LEARNT_WEEKS,), share=(1.0, 1.0), by_site=0.0, rest_days=(2,))
    world = hospital_group(extra_daily=float(rate), holidays=0.0, dip=rest if kept else None)
    leaf = len(world.scanners) - 1
    # The same draws for every case, so that these are told apart by what they do.
    alive = lived(world, _BUDGET, 2, np.random.default_rng([9, int(rate), int(index)]))
    if listed:
        alive.studies, alive.scans = (_listed(one) for one in (alive.studies, alive.scans))
    false = [finding.question.value for _, finding in alive.weeks(1)]
    death = _HOLIDAY * 24.0 - 2
    dead = Quarter(
        world=world,
        budget=_BUDGET,
        studies=silenced(alive.studies, leaf, death),
        scans=silenced(alive.scans, leaf, death),
        from_hour=death,
        watches=alive.watches,
    )
    noticed = next(((now, one) for now, one in dead.weeks(2) if one.leaves[leaf]), None)
    return {
        "false_alarms": len(false),
        "hours": None if noticed is None else noticed[0] - death,
        "alone": noticed is not None and int(noticed[1].leaves.sum()) == 1,
        "on_holiday": noticed is not None and noticed[0] <= (_HOLIDAY + 1) * 24,
    }


def _listed(arrivals: Arrivals) -> Arrivals:
    holidays = np.zeros_like(arrivals.watched)
    holidays[_HOLIDAY * 24 : _HOLIDAY * 24 + 24] = True
    return replace(arrivals, holidays=holidays)


def holiday_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of deaths before a holiday."""
    lines = [
        "",
        "A scanner that dies at ten in the evening before a Wednesday, beside twelve others; a "
        "false alarm may be expected in 8% of such weeks:",
        "",
        "| Wednesday | studies a working day | histories | hours: median (10–90 %) | noticed on "
        "that day | named alone | weeks with a false alarm |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for rate in RATES:
            of = [row for row in rows if row["key"].startswith(f"holiday/{case}/{rate}/")]
            if not of:
                continue
            hours = sorted(np.inf if row["hours"] is None else row["hours"] for row in of)
            low, middle, high = (hours[int(q * (len(of) - 1) + 0.5)] for q in (0.1, 0.5, 0.9))
            share = {
                name: np.mean([row[name] for row in of]) for name in ("on_holiday", "alone")
            }
            lines.append(
                f"| {case} | {rate} | {len(of)} | {middle:.1f} ({low:.1f}–{high:.1f}) | "
                f"{share['on_holiday']:.0%} | {share['alone']:.0%} | "
                f"{sum(row['false_alarms'] > 0 for row in of)} |"
            )
    return lines
