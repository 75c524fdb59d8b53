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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
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
    scans_of,
    small_group,
)
from results import Results  # noqa: E402

from monitor.statistics.arrivals.counts import log_at_least, log_at_most, log_none  # noqa: E402
from monitor.statistics.arrivals.looks import ArrivalWatch, Finding, Look  # noqa: E402
from monitor.statistics.arrivals.model import CELLS, Arrivals, Calendar  # noqa: E402
from monitor.statistics.arrivals.questions import AlarmBudget, Question  # noqa: E402
from monitor.statistics.arrivals.spans import Expectation  # noqa: E402

LOOKS_AN_HOUR = 4
LEARNT_WEEKS, QUARTER_WEEKS = 8, 13
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


@dataclass(kw_only=True)
class Quarter:
    """One simulated quarter under watch."""

    world: World
    budget: float
    studies: Arrivals
    scans: Arrivals
    open: list[Finding] = field(default_factory=list)
    #: looks before this hour are left out
    from_hour: float = 0.0
    #: what was learnt at the beginning of each week, which lives with one past share
    watches: dict[int, ArrivalWatch] = field(default_factory=dict)

    def weeks(self, number: int) -> Iterator[tuple[float, Finding]]:
        """Live through weeks one by one, and yield each alarm as it is raised."""
        for week in range(number):
            yield from self._week(week)

    def _week(self, week: int) -> Iterator[tuple[float, Finding]]:
        start, end = week * CELLS, (week + LEARNT_WEEKS) * CELLS
        if week not in self.watches:
            self.watches[week] = ArrivalWatch.learn(
                _part(self.studies, start, end),
                _part(self.scans, start, end),
                self.world.sources(),
                AlarmBudget(false_alarms=self.budget, looks_an_hour=LOOKS_AN_HOUR),
            )
        watch = self.watches[week]
        looks = end + np.arange(1, CELLS * LOOKS_AN_HOUR + 1) / LOOKS_AN_HOUR
        looks = looks[(looks < len(self.studies.calendar)) & (looks > self.from_hour)]
        studies, scans = self._expectations(watch)
        telling = _telling(watch, studies, scans, looks)
        for now, worth in zip(looks.tolist(), telling, strict=True):
            on_the_hour = float(now).is_integer()
            if self.open and on_the_hour:
                look = Look(watch=watch, now=now, studies=studies, scans=scans)
                if self._close(look):
                    studies, scans = self._expectations(watch)
            if worth:
                look = Look(watch=watch, now=now, studies=studies, scans=scans)
                in_alarm = np.zeros(self.studies.watched.shape[1], dtype=bool)
                for alarm in self.open:
                    in_alarm |= alarm.leaves
                for finding in look.findings(in_alarm=in_alarm, on_the_hour=on_the_hour):
                    self.open.append(finding)
                    yield now, finding

    def _expectations(self, watch: ArrivalWatch) -> tuple[Expectation, Expectation]:
        return (
            Expectation(model=watch.studies, arrivals=self.studies),
            Expectation(model=watch.scans, arrivals=self.scans),
        )

    def _close(self, look: Look) -> bool:
        """Close what recovered; the alarm's hours teach nothing."""
        over = [
            alarm
            for alarm in self.open
            if look.recovered(alarm.source, alarm.leaves, alarm.question)
        ]
        for alarm in over:
            for arrivals in (self.studies, self.scans):
                hours = slice(int(alarm.since), int(np.ceil(look.now)))
                arrivals.watched[hours, alarm.leaves] = False
        self.open = [alarm for alarm in self.open if all(alarm is not one for one in over)]
        return bool(over)


def _telling(
    watch: ArrivalWatch, studies: Expectation, scans: Expectation, looks: np.ndarray
) -> np.ndarray:
    """Return the looks at which a source could make an alarm: the others only ever excuse."""
    found = np.zeros(len(looks), dtype=bool)
    hourly = looks == np.floor(looks)
    for source in range(len(watch.sources)):
        for question in Question:
            expectation = studies if question.missing else scans
            own = expectation.side(source)
            clumps = expectation.model.clumps_a_week(own.leaves)
            alphas = [
                watch.budget.alpha(
                    question,
                    watch.sources,
                    source,
                    clumps_a_week=clumps,
                    overnight=overnight,
                )
                for overnight in (False, True)
            ]
            if question is Question.SILENT:
                times = scans.arrivals.of(own.leaves)
                place = np.searchsorted(times, looks, side="right")
                start = np.where(place > 0, times[np.maximum(place - 1, 0)], 0.0)
                calendar = scans.arrivals.calendar
                overnight = calendar.day_of(looks) > calendar.day_of(start)
                alpha = np.where(overnight, alphas[1], alphas[0])
                expected = expectation.expected(own.leaves, start, looks)
                # Without a spread nothing is likelier than with one.
                found |= log_none(expected, own.burst, 0.0) <= np.log(alpha)
                continue
            start = np.maximum(looks - question.hours, 0.0)
            expected = expectation.expected(own.leaves, start, looks)
            received = expectation.received(own.leaves, start, looks)
            tail = log_at_most if question.missing else log_at_least
            telling = tail(received, expected, own.burst, own.spread) <= np.log(alphas[0])
            found |= telling & (hourly | (question is Question.SURGE))
    return found


def _part(arrivals: Arrivals, start: int, end: int) -> Arrivals:
    """Return the hours from `start` to `end` by themselves."""
    inside = (arrivals.times >= start) & (arrivals.times < end)
    return Arrivals(
        calendar=Calendar(
            cell=arrivals.calendar.cell[start:end], day=arrivals.calendar.day[start:end]
        ),
        times=arrivals.times[inside] - start,
        leaf=arrivals.leaf[inside],
        watched=arrivals.watched[start:end],
    )


def _lived(world: World, budget: float, weeks: int, rng: np.random.Generator) -> Quarter:
    studies = world.draw(LEARNT_WEEKS + weeks, rng)
    return Quarter(world=world, budget=budget, studies=studies, scans=scans_of(studies, rng))


def quarter(key: str) -> dict[str, Any]:
    """Return the alarms of a quarter in which nothing is wrong."""
    _, name, budget, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    lived = _lived(hospital_group(**WORLDS[name]), float(budget), QUARTER_WEEKS, rng)
    alarms = [finding.question.value for _, finding in lived.weeks(QUARTER_WEEKS)]
    return {"alarms": len(alarms), "questions": {q: alarms.count(q) for q in Question}}


def dipped(key: str) -> dict[str, Any]:
    """Return the alarms, by week, of three weeks that begin with everybody's vacation."""
    _, fleet, dip, budget, index = key.split("/")
    # The same draws for every dip, so that these are told apart by what they do.
    rng = np.random.default_rng([5, int(index)])
    world = replace(FLEETS[fleet], dip=DIPS[dip])
    lived = _lived(world, float(budget), DIP_WEEKS, rng)
    by_week = [0] * DIP_WEEKS
    for now, _ in lived.weeks(DIP_WEEKS):
        by_week[min(int(now / CELLS) - LEARNT_WEEKS, DIP_WEEKS - 1)] += 1
    return {"alarms": by_week}


def deaths(key: str) -> dict[str, Any]:
    """Return how long after a scanner's death in a random hour its alarm came."""
    _, rate, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    world = hospital_group(extra_daily=float(rate))
    leaf = len(world.scanners) - 1
    alive = _lived(world, BUDGETS[0], 2, rng)
    expected = np.concatenate([[0.0], np.cumsum(np.tile(world.scanners[leaf].rates(), 3))])
    found: list[dict[str, float]] = []
    for _ in range(DEATHS):
        hour = float(rng.uniform(0, CELLS))
        death = LEARNT_WEEKS * CELLS + hour
        dead = Quarter(
            world=world,
            budget=alive.budget,
            studies=_silenced(alive.studies, leaf, death),
            scans=_silenced(alive.scans, leaf, death),
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
                "missed": float(missed[1] - missed[0]),
                "alone": float(noticed[1].leaves.sum() == 1),
            }
        )
    return {"deaths": found}


def _silenced(arrivals: Arrivals, leaf: int, death: float) -> Arrivals:
    alive = (arrivals.leaf != leaf) | (arrivals.times < death)
    return Arrivals(
        calendar=arrivals.calendar,
        times=arrivals.times[alive],
        leaf=arrivals.leaf[alive],
        watched=arrivals.watched.copy(),
    )


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
        "| studies missed: median | named alone |",
        "|---|---|---|---|---|---|",
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
        lines.append(
            f"| {rate} | {len(of)} | {len(seen) / len(of):.0%} | {_hours(middle)} "
            f"({_hours(low)}–{_hours(high)}) | {missed:.0f} | {alone:.0%} |"
        )
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


def main() -> None:
    """Measure what still lacks, as far as the time goes, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quarters", type=int, default=40, help="of each world")
    parser.add_argument(
        "--deaths", type=int, default=10, help="histories of each rate, four deaths each"
    )
    parser.add_argument("--dips", type=int, default=20, help="histories of each dip")
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
    # In turn, so that a run that stops early has some of each.
    keys.sort(key=lambda key: int(key.rpartition("/")[2]))
    until = time.monotonic() + chosen.seconds
    for key in list(results.missing(keys)):
        if time.monotonic() > until:
            break
        kind = key.partition("/")[0]
        results.measure([key], {"quarter": quarter, "dip": dipped, "death": deaths}[kind])
    sys.stdout.write(report(results) + "\n")


if __name__ == "__main__":
    main()
