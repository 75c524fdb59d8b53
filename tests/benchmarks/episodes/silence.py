"""Silence: false alarms a quarter against the budget, and how soon a dead scanner is noticed.

    python tests/benchmarks/episodes/silence.py [--quarters N] [--deaths N] [--seconds S]

A unit is one simulated history of a hospital group: eight weeks that are learnt from, anew each
week, and a quarter that is looked at every quarter of an hour. What was measured is kept line by
line in `results/silence.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parents[2]),
    str(HERE.parents[1] / "builders"),
    str(HERE.parent / "drift"),
]

import numpy as np  # noqa: E402  after the thread limits
from arrival_worlds import (  # noqa: E402
    CHRISTMAS,
    THIRD,
    VACATION,
    Dip,
    World,
    hospital_group,
    small_group,
)
from results import Results  # noqa: E402
from silence_half_years import (  # noqa: E402
    HOLIDAY_CASES,
    half_year,
    half_year_lines,
    holiday_week,
)
from silence_holidays import CASES, holiday, holiday_lines  # noqa: E402
from silence_holidays import RATES as HOLIDAY_RATES  # noqa: E402
from silence_quarters import (  # noqa: E402
    LEARNT_WEEKS,
    LOOKS_AN_HOUR,
    Quarter,
    lived,
    promised,
    silenced,
)

from monitor.statistics.arrivals.model import CELLS  # noqa: E402
from monitor.statistics.arrivals.questions import Question  # noqa: E402

QUARTER_WEEKS = 13
#: false alarms a quarter: what is asked for by default, and one that shows more in less time
BUDGETS = (1, 10)

#: Ordinary life, the same as the model has it and not, at three budgets' worth of trouble.
WORLDS: Mapping[str, Mapping[str, Any]] = {
    "ordinary": {},
    "single arrivals, even days": {
        "clump": 1.0,
        "own_spread": 0.0,
        "shared_spread": 0.0,
        "holidays": 0.0,
    },
    "clumps of two, uneven days": {"clump": 2.0, "own_spread": 0.06, "shared_spread": 0.02},
    "six holidays": {"holidays": 6.0},
    "heavier days (log-normal)": {"factors": "lognormal", "own_spread": 0.1},
    "each site's own holidays": {"own_holidays": True},
}
#: Weeks in which everybody sends less, of twelve scanners at four sites and of five at three.
DIPS: Mapping[str, Dip | None] = {
    "none": None,
    "a week at 40 to 60 %": VACATION,
    "a week at a third": THIRD,
    "two weeks at 40 to 60 %, three of their days holidays": CHRISTMAS,
}
FLEETS: Mapping[str, World] = {"twelve": hospital_group(), "five": small_group()}
#: of these, the dip's weeks and one after it; alarms are counted at the larger budget alone
DIP_WEEKS, DIP_BUDGET = 3, BUDGETS[-1]
#: Studies a working day of the scanner that dies, beside the hospital group.
RATES = (4, 12, 24, 60, 120)
#: deaths in each simulated history
DEATHS = 4


def quarter(key: str) -> dict[str, Any]:
    """Return the alarms of a quarter in which nothing is wrong."""
    _, name, budget, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    watched = lived(hospital_group(**WORLDS[name]), float(budget), QUARTER_WEEKS, rng)
    alarms = [finding.question.value for _, finding in watched.weeks(QUARTER_WEEKS)]
    return {"alarms": len(alarms), "questions": {q: alarms.count(q) for q in Question}}


def dipped(key: str) -> dict[str, Any]:
    """Return the alarms, by week, of three weeks that begin with everybody's vacation."""
    _, fleet, dip, budget, index = key.split("/")
    # The same draws for every dip, so that these are told apart by what they do.
    rng = np.random.default_rng([5, int(index)])
    world = replace(FLEETS[fleet], dip=DIPS[dip])
    watched = lived(world, float(budget), DIP_WEEKS, rng)
    by_week = [0] * DIP_WEEKS
    for now, _ in watched.weeks(DIP_WEEKS):
        by_week[min(int(now / CELLS) - LEARNT_WEEKS, DIP_WEEKS - 1)] += 1
    return {"alarms": by_week}


def deaths(key: str) -> dict[str, Any]:
    """Return how long after a scanner's death in a random hour its alarm came."""
    _, rate, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    world = hospital_group(extra_daily=float(rate))
    leaf = len(world.scanners) - 1
    alive = lived(world, BUDGETS[0], 2, rng)
    expected = np.concatenate([[0.0], np.cumsum(np.tile(world.scanners[leaf].rates(), 3))])
    found: list[dict[str, float]] = []
    for _ in range(DEATHS):
        hour = float(rng.uniform(0, CELLS))
        death = LEARNT_WEEKS * CELLS + hour
        dead = Quarter(
            world=world,
            budget=alive.budget,
            studies=silenced(alive.studies, leaf, death),
            scans=silenced(alive.scans, leaf, death),
            from_hour=death,
            watches=alive.watches,
        )
        noticed = next(
            ((now, alarm) for now, alarm in dead.weeks(2) if alarm.leaves[leaf]), None
        )
        if noticed is None:
            found.append({"noticed": 0.0})
            continue
        hours = noticed[0] - death
        missed = np.interp([hour, hour + hours], np.arange(len(expected)), expected)
        found.append(
            {
                "noticed": 1.0,
                "hours": hours,
                "promised": promised(alive, leaf, death),
                "missed": float(missed[1] - missed[0]),
                "alone": float(noticed[1].leaves.sum() == 1),
            }
        )
    return {"deaths": found}


def report(results: Results) -> str:
    """Return the tables in Markdown."""
    rows = results.rows()
    lines = [
        f"False alarms a quarter; 12 scanners at 4 sites, {LEARNT_WEEKS} weeks learnt anew each "
        f"week, {LOOKS_AN_HOUR} looks an hour:",
        "",
        "| world | budget | quarters | alarms a quarter (± s.e.) | silent | few | surge | many |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in WORLDS:
        for budget in BUDGETS:
            of = [row for row in rows if row["key"].startswith(f"quarter/{name}/{budget}/")]
            if not of:
                continue
            alarms = np.array([row["alarms"] for row in of], dtype=float)
            # Counts of alarms are at least as uneven as Poisson counts, also where none was seen.
            error = np.sqrt(max(alarms.var(), alarms.mean(), 1 / len(of)) / len(of))
            by = " | ".join(str(sum(row["questions"][one] for row in of)) for one in Question)
            lines.append(
                f"| {name} | {budget} | {len(of)} | {alarms.mean():.2f} ± {error:.2f} | {by} |"
            )
    lines += _dips(rows)
    lines += [
        "",
        "A scanner that dies in a random hour:",
        "",
        "| studies a working day | deaths | noticed within two weeks | hours: median (10–90 %) "
        "| noticed by when it was promised | studies missed: median | named alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in RATES:
        of = [
            death
            for row in rows
            if row["key"].startswith(f"death/{rate}/")
            for death in row["deaths"]
        ]
        if not of:
            continue
        seen = [death for death in of if death["noticed"]]
        # Those that were not noticed took longer than any that were.
        hours = sorted([death["hours"] for death in seen] + [np.inf] * (len(of) - len(seen)))
        low, middle, high = (hours[int(q * (len(hours) - 1) + 0.5)] for q in (0.1, 0.5, 0.9))
        missed = np.median([death["missed"] for death in seen])
        alone = np.mean([death["alone"] for death in seen])
        kept = np.mean([death["hours"] <= death["promised"] for death in seen])
        lines.append(
            f"| {rate} | {len(of)} | {len(seen) / len(of):.0%} | {_hours(middle)} "
            f"({_hours(low)}–{_hours(high)}) | {kept:.0%} | {missed:.0f} | {alone:.0%} |"
        )
    lines += holiday_lines(rows)
    lines += half_year_lines(rows)
    return "\n".join(lines)


def _dips(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of weeks in which everybody sends less."""
    lines = [
        "",
        "Weeks in which everybody sends less, each site within a tenth of the others' share; "
        f"false alarms in each of {DIP_WEEKS} weeks, which begin with the dip (in an ordinary "
        f"week {DIP_BUDGET / QUARTER_WEEKS:.2f} may be expected of a budget of {DIP_BUDGET}):",
        "",
        "| scanners | dip | histories | first week (± s.e.) | second | third |",
        "|---|---|---|---|---|---|",
    ]
    for fleet in FLEETS:
        for dip in DIPS:
            start = f"dip/{fleet}/{dip}/{DIP_BUDGET}/"
            of = [row["alarms"] for row in rows if row["key"].startswith(start)]
            if not of:
                continue
            alarms = np.array(of, dtype=float)
            error = np.sqrt(np.maximum(alarms.var(axis=0), 1 / len(of)) / len(of))
            weeks = " | ".join(
                f"{mean:.2f} ± {one:.2f}"
                for mean, one in zip(alarms.mean(axis=0), error, strict=True)
            )
            lines.append(f"| {fleet} | {dip} | {len(of)} | {weeks} |")
    return lines


def _hours(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "later"


MEASURES: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "quarter": quarter,
    "dip": dipped,
    "death": deaths,
    "holiday": holiday,
    "half-year": half_year,
    "holiday-week": holiday_week,
}


def main() -> None:
    """Measure what still lacks, as far as the time goes, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quarters", type=int, default=40, help="of each world")
    parser.add_argument(
        "--deaths", type=int, default=10, help="histories of each rate, four deaths each"
    )
    parser.add_argument("--dips", type=int, default=20, help="histories of each dip")
    parser.add_argument("--holidays", type=int, default=20, help="histories of each case")
    parser.add_argument("--half-years", type=int, default=30, help="seeds, from 1 on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    chosen = parser.parse_args()
    results = Results("silence", folder=HERE / "results")
    keys = [
        f"quarter/{name}/{budget}/{index}"
        for index in range(chosen.quarters)
        for budget in BUDGETS
        for name in WORLDS
    ]
    keys += [f"death/{rate}/{index}" for index in range(chosen.deaths) for rate in RATES]
    keys += [
        f"dip/{fleet}/{dip}/{DIP_BUDGET}/{index}"
        for index in range(chosen.dips)
        for fleet in FLEETS
        for dip in DIPS
    ]
    keys += [
        f"holiday/{case}/{rate}/{index}"
        for index in range(chosen.holidays)
        for rate in HOLIDAY_RATES
        for case in CASES
    ]
    seeds = range(1, chosen.half_years + 1)
    keys += [f"half-year/{seed}" for seed in seeds]
    keys += [f"holiday-week/{case}/{seed}" for seed in seeds for case in HOLIDAY_CASES]
    # In turn, so that a run that stops early has some of each.
    keys.sort(key=lambda key: int(key.rpartition("/")[2]))
    until = time.monotonic() + chosen.seconds
    for key in list(results.missing(keys)):
        if time.monotonic() > until:
            break
        results.measure([key], MEASURES[key.partition("/")[0]])
    sys.stdout.write(report(results) + "\n")


if __name__ == "__main__":
    main()
