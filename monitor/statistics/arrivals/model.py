"""Ordinary arrivals: what each source sends in each hour of the week, and how its counts vary.

Sources form a tree (all scans, sites, scanners). Leaves are learnt; a wider source is the sum of
its leaves. A span's mean is the sum of hourly rates by hour of week; its variance follows
`counts`; what whole days do to everybody, and how the others weigh that, follows
`days`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor.statistics.arrivals.counts import clumps_per_arrival
from monitor.statistics.arrivals.days import Booleans, Integers, SharedDays
from monitor.statistics.embeddings import Floats
from registry.errors import BadInputError

CELLS = 168
HOURS_PER_DAY = 24
_DAYS_PER_WEEK = 7


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Hours in a row, as the sites' own clocks and week days number them.

    Parameters
    ----------
    cell : hour of the week of each hour, 0 is Monday from midnight, int64 [H]
    day : number of the local day of each hour, never falling, int64 [H]

    Raises
    ------
    BadInputError
        If they differ in length, or an hour of the week lies outside 0 to 167.
    """

    cell: Integers
    day: Integers

    def __post_init__(self) -> None:
        if len(self.cell) != len(self.day) or len(self.cell) == 0:
            raise BadInputError("a calendar needs one hour of the week and one day an hour")
        if self.cell.min() < 0 or self.cell.max() >= CELLS:
            raise BadInputError("an hour of the week lies between 0 and 167")

    def __len__(self) -> int:
        return len(self.cell)

    @cached_property
    def midnights(self) -> Floats:
        """The hours at which local days begin, the first hour among them, and the end, [D + 1]."""
        first = np.flatnonzero(np.diff(self.day, prepend=self.day[0] - 1))
        return np.append(first, len(self.day)).astype(np.float64)

    def day_of(self, moment: npt.ArrayLike) -> Integers:
        """Return the place among the days of moments in hours."""
        found: Integers = np.searchsorted(self.midnights, moment, side="right") - 1
        return np.clip(found, 0, len(self.midnights) - 2)

    def weeks(self, watched: Booleans) -> Floats:
        """Return how many weeks some hours of whole local days make, [L].

        A day counts as one whether it has 23, 24 or 25 hours, so that two weeks with the change
        to summer time among them are two.

        Parameters
        ----------
        watched : bool [H, L]
        """
        first = self.midnights[:-1].astype(np.int64)
        seen = np.add.reduceat(watched.astype(np.float64), first, axis=0)
        found: Floats = (seen / np.diff(self.midnights)[:, None]).sum(axis=0) / _DAYS_PER_WEEK
        return found


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Sources as a tree, wider ones first, so that the first holds every leaf.

    Parameters
    ----------
    members : the leaves of each source, bool [S, L]
    parents : place of the next wider source, -1 for the first, int64 [S]
    """

    members: Booleans
    parents: Integers

    def __post_init__(self) -> None:
        if self.parents[0] != -1 or not self.members[0].all():
            raise BadInputError("the first source must hold every leaf")
        if np.any(self.parents[1:] >= np.arange(1, len(self.parents))):
            raise BadInputError("a wider source must stand before those that it holds")

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def levels(self) -> Integers:
        """How many wider sources hold each one, [S]."""
        found = np.zeros(len(self), dtype=np.int64)
        for source in range(1, len(self)):
            found[source] = found[self.parents[source]] + 1
        return found

    def children(self, source: int) -> list[int]:
        """Return the sources right below one."""
        return [int(child) for child in np.flatnonzero(self.parents == source)]

    @cached_property
    def others(self) -> Booleans:
        """The leaves beside each source: of its site, or failing that of all, bool [S, L]."""
        found = np.zeros_like(self.members)
        for source in range(1, len(self)):
            top = source
            while self.parents[top] > 0:
                top = int(self.parents[top])
            beside = self.members[top] & ~self.members[source]
            found[source] = beside if beside.any() else ~self.members[source]
        return found

    @cached_property
    def groups(self) -> Integers:
        """For each leaf the site it belongs to, which shares its days, int64 [L]."""
        found = np.zeros(self.members.shape[1], dtype=np.int64)
        for top in self.children(0):
            found[self.members[top]] = top
        return found


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Arrivals of every leaf.

    Parameters
    ----------
    calendar : H hours
    times : hours since the calendar began, rising, float64 [n]
    leaf : int64 [n]
    watched : hours in which a leaf was as usual; the rest teaches nothing, bool [H, L]
    holidays : hours of days that a hospital's calendar lists, bool [H, L]; None for none
    """

    calendar: Calendar
    times: Floats
    leaf: Integers
    watched: Booleans
    holidays: Booleans | None = None

    def __post_init__(self) -> None:
        if np.any(np.diff(self.times) < 0):
            raise BadInputError("arrivals must be in the order of their times")
        if len(self.times) and not 0 <= self.times[0] <= self.times[-1] < len(self.calendar):
            raise BadInputError("an arrival lies outside the calendar's hours")

    @cached_property
    def counts(self) -> Floats:
        """How many came in each hour, [H, L]."""
        found = np.zeros(self.watched.shape)
        np.add.at(found, (self.times.astype(np.int64), self.leaf), 1.0)
        return found

    def of(self, leaves: Booleans) -> Floats:
        """Return the times of the arrivals of some leaves, rising."""
        return self.times[leaves[self.leaf]]

    def on(self, *, holidays: bool) -> Arrivals:
        """Return the same with listed holidays alone watched, or all days but these."""
        listed = self.holidays
        if listed is None:
            watched = np.zeros_like(self.watched) if holidays else self.watched
        else:
            watched = self.watched & (listed if holidays else ~listed)
        return replace(self, watched=watched, holidays=None)


@dataclass(frozen=True, kw_only=True)
class ArrivalModel:
    """What is ordinary.

    Parameters
    ----------
    rates : arrivals an hour in each hour of an ordinary week, float64 [168, L]
    rest_day : day of the week that is the quietest, 0 is Monday
    bursts, spreads : of each source, as `counts` has them, float64 [S]
    evenness : of each source, how evenly an hour's arrivals come within it, 1 for evenly and
        near 0 for all at one minute, float64 [S]
    weeks : that each leaf was learnt from, float64 [L]
    shared : what whole days do to everybody
    """

    sources: Sources
    rates: Floats
    rest_day: int
    bursts: Floats
    spreads: Floats
    evenness: Floats
    weeks: Floats
    shared: SharedDays

    @cached_property
    def weekly(self) -> Floats:
        """Arrivals a week of each leaf, [L]."""
        found: Floats = self.rates.sum(axis=0)
        return found

    def hourly(self, calendar: Calendar, *, at_rest: bool = False) -> Floats:
        """Return the arrivals that ordinary days, or days at rest, bring in each hour, [H, L]."""
        cell = calendar.cell
        if at_rest:
            cell = self.rest_day * HOURS_PER_DAY + cell % HOURS_PER_DAY
        return self.rates[cell]

    def expected(self, calendar: Calendar, holidays: Booleans | None) -> Floats:
        """Return expected arrivals in each hour, of which some are of listed holidays, [H, L]."""
        ordinary = self.hourly(calendar)
        if holidays is None:
            return ordinary
        found: Floats = np.where(
            holidays,
            self.shared.on_holiday(ordinary, self.hourly(calendar, at_rest=True)),
            ordinary,
        )
        return found

    def burst(self, leaves: Booleans, source: int | None = None) -> float:
        """Return the burst of some leaves together, with what learning adds to the variance.

        A rate that was learnt from w weeks has variance rate * burst / w.
        """
        share = self._shares(leaves)
        learning = float(share @ (1.0 + 1.0 / np.maximum(self.weeks[leaves], 1e-9)))
        own = float(share @ self.bursts[self._leaves[leaves]])
        return (own if source is None else max(1.0, float(self.bursts[source]))) * learning

    def spread(self, leaves: Booleans, source: int | None = None) -> float:
        """Return the spread of some leaves together."""
        if source is not None:
            return float(self.spreads[source])
        share = self._shares(leaves)
        return float(share**2 @ self.spreads[self._leaves[leaves]])

    def even(self, leaves: Booleans, source: int | None = None) -> float:
        """Return the evenness of some leaves together."""
        if source is not None:
            return float(self.evenness[source])
        return float(self._shares(leaves) @ self.evenness[self._leaves[leaves]])

    def clumps_a_week(self, leaves: Booleans) -> float:
        """Return how many clumps of arrivals some leaves are expected to send in a week."""
        clumps = clumps_per_arrival(self.bursts[self._leaves[leaves]])
        return float(self.weekly[leaves] @ clumps)

    @cached_property
    def _leaves(self) -> Integers:
        """The narrowest source of each leaf, [L]."""
        sizes = self.sources.members.sum(axis=1)
        return np.array(
            [
                min(np.flatnonzero(self.sources.members[:, leaf]), key=lambda s: (sizes[s], -s))
                for leaf in range(self.sources.members.shape[1])
            ],
            dtype=np.int64,
        )

    def _shares(self, leaves: Booleans) -> Floats:
        weekly = np.maximum(self.weekly[leaves], 1e-9)
        share: Floats = weekly / weekly.sum()
        return share
