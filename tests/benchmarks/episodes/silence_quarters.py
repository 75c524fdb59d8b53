"""A simulated quarter under watch, looked at every quarter of an hour and learnt anew each week."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from arrival_worlds import World, scans_of

from monitor.statistics.arrivals.counts import log_at_least, log_at_most, log_none
from monitor.statistics.arrivals.looks import ArrivalWatch, Finding, Look
from monitor.statistics.arrivals.model import CELLS, Arrivals, Calendar
from monitor.statistics.arrivals.questions import AlarmBudget, Question
from monitor.statistics.arrivals.spans import Expectation

LOOKS_AN_HOUR = 4
LEARNT_WEEKS = 8


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
                expected = expectation.ordinary(own.leaves, start, looks)
                # Without a spread nothing is likelier than with one.
                found |= log_none(expected, own.burst, 0.0) <= np.log(alpha)
                continue
            start = np.maximum(looks - question.hours, 0.0)
            expected = expectation.ordinary(own.leaves, start, looks)
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
        holidays=None if arrivals.holidays is None else arrivals.holidays[start:end],
    )


def lived(world: World, budget: float, weeks: int, rng: np.random.Generator) -> Quarter:
    """Return weeks of a world, after those that are learnt from."""
    studies = world.draw(LEARNT_WEEKS + weeks, rng)
    return Quarter(world=world, budget=budget, studies=studies, scans=scans_of(studies, rng))


def promised(alive: Quarter, leaf: int, death: float) -> float:
    """Return after how many hours a scanner's stop is said to show, when it stops."""
    watch = alive.watches[int(death / CELLS) - LEARNT_WEEKS]
    members = np.arange(alive.studies.watched.shape[1]) == leaf
    source = int(np.flatnonzero((watch.sources.members == members).all(axis=1))[0])
    studies, scans = (_until(arrivals, death) for arrivals in (alive.studies, alive.scans))
    look = watch.at(death, studies, scans)
    return look.hours_until_noticed(source, in_alarm=np.zeros_like(members))


def _until(arrivals: Arrivals, hour: float) -> Arrivals:
    """Return what came before an hour."""
    before = arrivals.times < hour
    return replace(arrivals, times=arrivals.times[before], leaf=arrivals.leaf[before])


def silenced(arrivals: Arrivals, leaf: int, death: float) -> Arrivals:
    """Return arrivals in which a scanner sends nothing from an hour on."""
    alive = (arrivals.leaf != leaf) | (arrivals.times < death)
    return replace(
        arrivals,
        times=arrivals.times[alive],
        leaf=arrivals.leaf[alive],
        watched=arrivals.watched.copy(),
    )
