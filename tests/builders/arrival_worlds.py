"""Simulated hospitals: scanners with a weekly rhythm, clumps, busy days and holidays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.arrivals.model import Arrivals, Calendar, Sources

Floats = npt.NDArray[np.float64]

#: Share of a day's scans in each hour.
_DAYTIME = np.array(
    [1, 1, 1, 1, 1, 1, 2, 6, 12, 14, 14, 13, 10, 11, 13, 12, 9, 6, 4, 3, 3, 2, 2, 1]
)
_OFFICE = np.array(
    [0, 0, 0, 0, 0, 0, 0, 4, 12, 14, 14, 12, 6, 10, 13, 11, 6, 1, 0, 0, 0, 0, 0, 0]
)
_ROUND_THE_CLOCK = np.array(
    [3, 3, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 5, 4, 4]
)


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One scanner: what it sends on a working day, and how its week looks."""

    site: int
    daily: float
    #: "hospital", "outpatient" (shut at weekends and on holidays) or "emergency" (never less)
    kind: str = "hospital"

    def rates(self) -> Floats:
        """Studies an hour in each hour of an ordinary week, [168]."""
        hours, weekend = {
            "hospital": (_DAYTIME, (0.5, 0.35)),
            "outpatient": (_OFFICE, (0.0, 0.0)),
            "emergency": (_ROUND_THE_CLOCK, (1.0, 1.0)),
        }[self.kind]
        by_day = np.array([1.0] * 5 + list(weekend))
        return (self.daily * by_day[:, None] * hours / hours.sum()).ravel()


@dataclass(frozen=True, kw_only=True)
class Dip:
    """Weeks of vacation: everybody sends less."""

    #: counted from the first
    weeks: tuple[int, ...]
    #: of an ordinary week's scans, the least and the most; one draw a week for all
    share: tuple[float, float] = (0.4, 0.6)
    #: each site's own share lies about that of all by a factor up to this much from 1
    by_site: float = 0.1
    #: days within them, from the first week's Monday on, on which everybody is at rest
    rest_days: tuple[int, ...] = ()


#: A week at Easter or in summer, and two about Christmas with its three holidays.
VACATION = Dip(weeks=(8,))
THIRD = Dip(weeks=(8,), share=(1 / 3, 1 / 3), by_site=0.0)
CHRISTMAS = Dip(weeks=(8, 9), rest_days=(3, 4, 10))


@dataclass(frozen=True, kw_only=True)
class World:
    """What a simulated fleet does to counts."""

    scanners: Sequence[Scanner]
    #: variance of a day's factor on everybody, and of a scanner's own
    shared_spread: float = 0.01
    own_spread: float = 0.03
    #: studies in a clump, on average; clumps come within ten minutes
    clump: float = 1.3
    #: holidays a quarter
    holidays: float = 3.0
    #: "gamma" as the model believes, or "lognormal" with the same variance
    factors: str = "gamma"
    #: each site has holidays of its own
    own_holidays: bool = False
    dip: Dip | None = None

    def sources(self) -> Sources:
        """All, sites, scanners; a site's only scanner is the site."""
        leaves = len(self.scanners)
        members, parents = [np.ones(leaves, dtype=bool)], [-1]
        sites = sorted({scanner.site for scanner in self.scanners})
        of_site = [
            np.array([scanner.site == site for scanner in self.scanners]) for site in sites
        ]
        for these in of_site:
            if len(sites) > 1:
                members.append(these)
                parents.append(0)
            parent = len(members) - 1 if len(sites) > 1 else 0
            if these.sum() > 1:
                for leaf in np.flatnonzero(these):
                    members.append(np.arange(leaves) == leaf)
                    parents.append(parent)
        return Sources(members=np.array(members), parents=np.array(parents))

    def draw(self, weeks: int, rng: np.random.Generator) -> Arrivals:
        """Draw arrivals of studies over whole weeks from a Monday on."""
        days = 7 * weeks
        calendar = Calendar(
            cell=np.tile(np.arange(168), weeks), day=np.repeat(np.arange(days), 24)
        )
        shared = self._factor(self.shared_spread, days, rng)
        holiday = rng.random(days) < self.holidays / 91
        vacation = self._vacation(days, holiday, rng)
        times, leaves = [], []
        for leaf, scanner in enumerate(self.scanners):
            own = np.random.default_rng([scanner.site, int(rng.integers(1 << 30))])
            shut = own.random(days) < self.holidays / 91 if self.own_holidays else holiday
            rates = scanner.rates().reshape(7, 24)
            by_day = np.tile(rates, (weeks, 1))
            by_day[shut] = rates[6] * rng.uniform(0.8, 1.2)
            factor = shared * self._factor(self.own_spread, days, rng)
            factor = factor * vacation[scanner.site]
            mean = (by_day * factor[:, None]).ravel()
            clumps = rng.poisson(mean / self.clump)
            starts = np.repeat(np.arange(len(mean)), clumps) + rng.random(clumps.sum())
            sizes = rng.geometric(1 / self.clump, size=len(starts))
            at = np.repeat(starts, sizes)
            at += np.where(np.diff(at, prepend=-1.0) == 0, rng.random(len(at)) / 6, 0.0)
            at = at[at < len(mean)]
            times.append(at)
            leaves.append(np.full(len(at), leaf))
        return arrivals_of(calendar, np.concatenate(times), np.concatenate(leaves), len(times))

    def _vacation(
        self, days: int, holiday: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> Floats:
        """Return what a dip leaves of each site's days, [sites, D], and mark its rest days."""
        left = np.ones((1 + max(scanner.site for scanner in self.scanners), days))
        if self.dip is None:
            return left
        for week in self.dip.weeks:
            share = rng.uniform(*self.dip.share)
            own = 1 + self.dip.by_site * rng.uniform(-1, 1, size=len(left))
            left[:, 7 * week : 7 * week + 7] = (share * own)[:, None]
        for day in self.dip.rest_days:
            holiday[7 * self.dip.weeks[0] + day] = True
            left[:, 7 * self.dip.weeks[0] + day] = 1.0
        return left

    def _factor(self, spread: float, days: int, rng: np.random.Generator) -> Floats:
        if spread == 0:
            return np.ones(days)
        if self.factors == "gamma":
            return rng.gamma(1 / spread, spread, size=days)
        sigma = np.sqrt(np.log1p(spread))
        return rng.lognormal(-(sigma**2) / 2, sigma, size=days)


def arrivals_of(
    calendar: Calendar, times: Floats, leaf: npt.NDArray[np.int64], leaves: int
) -> Arrivals:
    """Return arrivals in any order as arrivals in the order of their times, all watched."""
    order = np.argsort(times, kind="stable")
    return Arrivals(
        calendar=calendar,
        times=times[order],
        leaf=leaf[order],
        watched=np.ones((len(calendar), leaves), dtype=bool),
    )


def scans_of(studies: Arrivals, rng: np.random.Generator) -> Arrivals:
    """Return the scans of studies: two each on average, within five minutes."""
    scans = 1 + rng.poisson(1.0, len(studies.times))
    times = np.repeat(studies.times, scans)
    later = np.diff(np.repeat(np.arange(len(scans)), scans), prepend=-1) == 0
    times = times + np.where(later, rng.random(len(times)) / 12, 0.0)
    inside = times < len(studies.calendar)
    return arrivals_of(
        studies.calendar,
        times[inside],
        np.repeat(studies.leaf, scans)[inside],
        studies.watched.shape[1],
    )


def hospital_group(*, extra_daily: float | None = None, **changes: object) -> World:
    """Four sites, twelve scanners, from four to a hundred and twenty studies a day.

    With `extra_daily` the second site has one more, of that rate.
    """
    daily = [(0, 120, 60, 30), (1, 60, 24, 12), (2, 24, 8), (3, 30, 15, 8, 4)]
    kinds = {(0, 30): "outpatient", (1, 24): "emergency", (3, 15): "outpatient"}
    scanners = [
        Scanner(site=site, daily=rate, kind=kinds.get((site, int(rate)), "hospital"))
        for site, *rates in daily
        for rate in rates
    ]
    if extra_daily is not None:
        scanners.append(Scanner(site=1, daily=extra_daily))
    return World(scanners=scanners, **changes)  # type: ignore[arg-type]


def small_group(**changes: object) -> World:
    """Return three sites with five scanners, of some eight studies a working day each."""
    daily = [(0, 9.5, 8.0), (1, 8.0, 8.5), (2, 8.5)]
    scanners = [Scanner(site=site, daily=rate) for site, *rates in daily for rate in rates]
    return World(scanners=scanners, clump=1.0, holidays=0.0, **changes)  # type: ignore[arg-type]
