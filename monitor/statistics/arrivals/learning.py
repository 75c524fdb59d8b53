"""Learning ordinary arrivals from past weeks, holidays and busy days among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from monitor.statistics.arrivals.counts import log_probability
from monitor.statistics.arrivals.days import ORDINARY, Booleans, Integers, SharedDays
from monitor.statistics.arrivals.model import (
    CELLS,
    HOURS_PER_DAY,
    ArrivalModel,
    Arrivals,
    Sources,
)
from monitor.statistics.embeddings import Floats
from registry.errors import InsufficientDataError

#: Every hour of the week must have been seen twice.
LEAST_WEEKS = 2
_ROUNDS = 3
#: Weeks that the mean over like hours weighs beside an hour's own weeks.
_PRIOR_WEEKS = 1.0
#: Of a leaf's mean rate, what is expected even in an hour in which nothing ever came.
_LEAST_RATE = 0.02
#: What is believed before a day is seen, and how many days, or arrivals, it weighs.
_PRIOR_SPREAD, _PRIOR_SPREAD_DAYS = 0.02, 10.0
_PRIOR_SHARED_SPREAD = 0.01
_PRIOR_EXCEPTIONAL, _PRIOR_EXCEPTIONAL_DAYS = 0.045, 180.0
_PRIOR_BURST_ARRIVALS = 50.0
_LEAST_SPREAD = 0.003
#: Parts of an hour by which it is seen how evenly arrivals come within it.
_PARTS = 6
#: A day further out than this many standard deviations teaches the spread no more than that.
_FURTHEST = 4.0


def learn(arrivals: Arrivals, sources: Sources) -> ArrivalModel:
    """Learn what is ordinary from whole local days.

    A day's kind and factor are estimated from what its whole site sent, so that a holiday
    among the past weeks lowers nobody's rates; rates, kinds and spreads are found in turn.
    Listed holidays teach nothing but what listed holidays are like.

    Raises
    ------
    InsufficientDataError
        If no leaf was watched for two weeks.
    """
    days = _Days(arrivals=arrivals.on(holidays=False), sources=sources)
    weeks = arrivals.calendar.weeks(days.arrivals.watched)
    if not len(weeks) or not enough(weeks).any():
        raise InsufficientDataError(
            what="weeks of arrivals",
            needed=LEAST_WEEKS,
            got=int(weeks.max()) if len(weeks) else 0,
        )
    shared = SharedDays(spread=_PRIOR_SHARED_SPREAD, exceptional_share=_PRIOR_EXCEPTIONAL)
    rates, rest_day = days.first_rates()
    for _ in range(_ROUNDS):
        model = ArrivalModel(
            sources=sources,
            rates=rates,
            rest_day=rest_day,
            bursts=days.bursts(rates),
            spreads=np.full(len(sources), _PRIOR_SPREAD),
            evenness=np.ones(len(sources)),
            weeks=weeks,
            shared=shared,
        )
        ordinary, factor = days.kinds(model)
        rates = days.rates(ordinary, factor)
        rest_day = _quietest(rates)
        shared = days.shared(model, ordinary)
    bursts = days.bursts(rates)
    found = ArrivalModel(
        sources=sources,
        rates=rates,
        rest_day=rest_day,
        bursts=bursts,
        spreads=days.spreads(model, ordinary),
        evenness=days.evenness(bursts),
        weeks=weeks,
        shared=shared,
    )
    if arrivals.holidays is None:
        return found
    listed = _Days(arrivals=arrivals.on(holidays=True), sources=sources)
    return replace(found, shared=listed.holidays(found))


def enough(weeks: Floats) -> Booleans:
    """Return of which leaves so many weeks were seen that they can be learnt, [L]."""
    found: Booleans = weeks >= LEAST_WEEKS - 1e-9  # of sums of parts of days
    return found


def _quietest(rates: Floats) -> int:
    """Return the day of the week on which least is expected."""
    return int(rates.sum(axis=1).reshape(-1, HOURS_PER_DAY).sum(axis=1).argmin())


@dataclass(frozen=True, kw_only=True)
class _Days:
    """Past arrivals by hour and by day."""

    arrivals: Arrivals
    sources: Sources

    @cached_property
    def watched(self) -> Floats:
        return self.arrivals.watched.astype(np.float64)

    @cached_property
    def counts(self) -> Floats:
        """Arrivals of watched hours, [H, L]."""
        found: Floats = self.arrivals.counts * self.watched
        return found

    @property
    def cell(self) -> Integers:
        return self.arrivals.calendar.cell

    @cached_property
    def _first(self) -> Integers:
        return self.arrivals.calendar.midnights[:-1].astype(np.int64)

    @cached_property
    def _place(self) -> Integers:
        """Place among the days of each hour, [H]."""
        return self.arrivals.calendar.day_of(np.arange(len(self.cell)))

    @cached_property
    def weekday(self) -> Integers:
        """Day of the week of each day, [D]."""
        return self.cell[self._first] // HOURS_PER_DAY

    @cached_property
    def weeks(self) -> float:
        """How many days of each day of the week there are."""
        return max(len(self.weekday) / 7, LEAST_WEEKS)

    def by_day(self, hourly: Floats) -> Floats:
        """Return sums over the hours of each day, [D, ...]."""
        found: Floats = np.add.reduceat(hourly, self._first, axis=0)
        return found

    def first_rates(self) -> tuple[Floats, int]:
        """Return rates and rest day without the days on which a site sent less than half."""
        groups = self.sources.groups
        ordinary = np.ones((len(self.weekday), len(self.sources)))
        for group in np.unique(groups):
            totals = self.by_day(self.counts[:, groups == group].sum(axis=1))
            for weekday in range(7):
                those = self.weekday == weekday
                if those.any():
                    usual = np.median(totals[those])
                    ordinary[those, group] = (usual < 5) | (totals[those] > usual / 2)
        rates = self.rates(ordinary, np.ones_like(ordinary))
        return rates, _quietest(rates)

    def rates(self, ordinary: Floats, factor: Floats) -> Floats:
        """Return arrivals an hour by hour of week, [168, L], from days as they weigh, [D, S]."""
        weight = self.watched * ordinary[self._place][:, self.sources.groups]
        exposure = weight * factor[self._place][:, self.sources.groups]
        sums, weeks = np.zeros((2, CELLS, self.watched.shape[1]))
        np.add.at(sums, self.cell, self.counts * weight)
        np.add.at(weeks, self.cell, exposure)
        like = _like_hours(sums, weeks)
        found: Floats = (sums + _PRIOR_WEEKS * like) / (weeks + _PRIOR_WEEKS)
        least: Floats = np.maximum(found, _LEAST_RATE * found.mean(axis=0))
        return least

    def kinds(self, model: ArrivalModel) -> tuple[Floats, Floats]:
        """Return how surely each day was ordinary, and by which factor, [D, S], by site."""
        ordinary = np.ones((len(self.weekday), len(self.sources)))
        factor = np.ones_like(ordinary)
        for group in np.unique(self.sources.groups):
            points = self._posterior(model, int(group), self.sources.groups == group)
            usual = points[:, model.shared.kinds == ORDINARY]
            ordinary[:, group] = usual.sum(axis=1)
            at = model.shared.factors[model.shared.kinds == ORDINARY]
            factor[:, group] = usual @ at / np.maximum(ordinary[:, group], 1e-12)
        return ordinary, factor

    def _posterior(self, model: ArrivalModel, source: int, leaves: Booleans) -> Floats:
        """Return the probability of each point of the grid of days, [D, C]."""
        expected, at_rest = self._expected(model, leaves)
        means = model.shared.means(expected, at_rest)
        received = self.by_day(self.counts[:, leaves].sum(axis=1))
        return model.shared.posterior(
            log_probability(
                received[:, None], means, model.bursts[source], model.spreads[source]
            )
        )

    def _expected(self, model: ArrivalModel, leaves: Booleans) -> tuple[Floats, Floats]:
        """Return what ordinary days and days at rest would bring, [D] each."""
        calendar = self.arrivals.calendar
        usual, rest = (
            self.by_day((model.hourly(calendar, at_rest=kind) * self.watched)[:, leaves])
            for kind in (False, True)
        )
        return usual.sum(axis=1), rest.sum(axis=1)

    def shared(self, model: ArrivalModel, ordinary: Floats) -> SharedDays:
        """Return what days do to everybody, from the totals of all sources."""
        points = self._posterior(model, 0, self.sources.members[0])
        exceptional = 1.0 - points[:, model.shared.kinds == ORDINARY].sum(axis=1)
        share = (_PRIOR_EXCEPTIONAL * _PRIOR_EXCEPTIONAL_DAYS + float(exceptional.sum())) / (
            _PRIOR_EXCEPTIONAL_DAYS + len(exceptional)
        )
        expected, _ = self._expected(model, self.sources.members[0])
        received = self.by_day(self.counts.sum(axis=1))
        usual = self._usual(ordinary, self.sources.members[0]) & (exceptional < 0.5)
        return SharedDays(
            spread=self._excess(
                (received - expected)[usual],
                expected[usual],
                known=model.bursts[0] * expected[usual],
                prior=_PRIOR_SHARED_SPREAD,
            ),
            exceptional_share=share,
        )

    def holidays(self, model: ArrivalModel) -> SharedDays:
        """Return what days do to everybody, with what these, all of them listed, teach."""
        expected, at_rest = self._expected(model, self.sources.members[0])
        kept = expected > 0
        received = self.by_day(self.counts.sum(axis=1))[kept]
        means = model.shared.means(expected[kept], at_rest[kept])
        return model.shared.with_holidays(
            log_probability(received[:, None], means, model.bursts[0], model.spreads[0])
        )

    def spreads(self, model: ArrivalModel, ordinary: Floats) -> Floats:
        """Return how much the days of each source vary besides everybody's, [S]."""
        found = np.full(len(self.sources), _LEAST_SPREAD)
        for source in range(1, len(self.sources)):
            members, others = self.sources.members[source], self.sources.others[source]
            expected, at_rest = self._expected(model, members)
            points = np.tile(
                np.exp(model.shared.log_weights) * model.shared.shares[model.shared.kinds],
                (len(expected), 1),
            )
            if others.any():
                points = self._posterior(model, 0, others)
            means = model.shared.means(expected, at_rest)
            mean = (points * means).sum(axis=1)
            shared = (points * means**2).sum(axis=1) - mean**2
            usual = self._usual(ordinary, members)
            received = self.by_day(self.counts[:, members].sum(axis=1))
            found[source] = self._excess(
                (received - mean)[usual],
                mean[usual],
                known=(model.bursts[source] * mean + shared)[usual],
                prior=_PRIOR_SPREAD,
            )
        return found

    def _usual(self, ordinary: Floats, leaves: Booleans) -> Booleans:
        found: Booleans = ordinary[:, np.unique(self.sources.groups[leaves])].min(axis=1) > 0.5
        return found

    def _excess(self, residual: Floats, mean: Floats, *, known: Floats, prior: float) -> float:
        """Return the variance of days' factors: what squares exceed the known variance by."""
        if not len(residual):
            return prior
        # Residuals were fitted by day of the week, which takes one in as many weeks.
        squares = residual**2 * self.weeks / (self.weeks - 1)
        squares = np.minimum(squares, _FURTHEST**2 * (known + prior * mean**2))
        weight = _PRIOR_SPREAD_DAYS * float(np.mean(mean**2))
        found = (float((squares - known).sum()) + prior * weight) / (
            float((mean**2).sum()) + weight + 1e-12
        )
        return max(_LEAST_SPREAD, found)

    def bursts(self, rates: Floats) -> Floats:
        """Return the burst of each source, from how its days fall on their hours, [S].

        Given a day's count N, hours are multinomial where arrivals come singly. Where they
        come in clumps the squares are larger by F = b m / (m + b - 1) at m a day, the
        Dirichlet-multinomial's factor (Mosimann 1962, Biometrika 49:65-82).
        """
        hourly = rates[self.cell] * self.watched
        squares, expected, daily = np.zeros((3, len(self.sources)))
        for source in range(len(self.sources)):
            members = self.sources.members[source]
            count, rate = self.counts[:, members].sum(axis=1), hourly[:, members].sum(axis=1)
            total, mean = self.by_day(count), self.by_day(rate)
            share = rate / np.maximum(mean[self._place], 1e-12)
            squares[source] = ((count - total[self._place] * share) ** 2).sum()
            expected[source] = (total * (1 - self.by_day(share**2))).sum()
            daily[source] = (total**2).sum() / max(total.sum(), 1e-12)
        squares *= self.weeks / (self.weeks - 1)
        pooled = max(1.0, float(squares.sum() / max(expected.sum(), 1e-12)))
        factor = (squares + _PRIOR_BURST_ARRIVALS * pooled) / (expected + _PRIOR_BURST_ARRIVALS)
        factor = np.minimum(np.maximum(factor, 1.0), np.maximum(daily / 2, 1.0))
        found: Floats = factor * (daily - 1.0) / np.maximum(daily - factor, 1e-12)
        return np.where(daily > 2.0, np.maximum(found, 1.0), pooled)

    def evenness(self, bursts: Floats) -> Floats:
        """Return how evenly an hour's arrivals come within it, beyond their burst, [S].

        Ten minutes against their hour, as hours against their day in `bursts`: a batch at
        one minute of its hour has squares as large as its count.
        """
        arrivals = self.arrivals
        watched = arrivals.watched[arrivals.times.astype(np.int64), arrivals.leaf]
        part = (arrivals.times * _PARTS).astype(np.int64)
        found = np.ones(len(self.sources))
        for source in range(len(self.sources)):
            chosen = watched & self.sources.members[source][arrivals.leaf]
            counts = np.bincount(part[chosen], minlength=_PARTS * len(self.cell))
            by_hour = counts.reshape(-1, _PARTS)
            squares = float((by_hour**2).sum() - (by_hour.sum(axis=1) ** 2).sum() / _PARTS)
            expected = float(by_hour.sum()) * (1 - 1 / _PARTS)
            within = (squares + _PRIOR_BURST_ARRIVALS * bursts[source]) / (
                expected + _PRIOR_BURST_ARRIVALS
            )
            found[source] = min(1.0, bursts[source] / max(within, 1e-12))
        return found


def _like_hours(sums: Floats, weeks: Floats) -> Floats:
    """Return each leaf's mean rate over the same hours of like days, smoothed, [168, L].

    Days are like where both are busy or both quiet, quiet being below 0.6 of the busiest.
    """
    shape = (7, HOURS_PER_DAY, sums.shape[1])
    by_day = sums.sum(axis=1).reshape(shape[:2]).sum(axis=1) / np.maximum(
        weeks.mean(axis=1).reshape(shape[:2]).mean(axis=1), 1e-12
    )
    quiet = by_day < 0.6 * by_day.max()
    found = np.zeros(shape)
    for like in (quiet, ~quiet):
        if like.any():
            mean = sums.reshape(shape)[like].sum(axis=0) / np.maximum(
                weeks.reshape(shape)[like].sum(axis=0), 1e-12
            )
            found[like] = (np.roll(mean, 1, axis=0) + 2 * mean + np.roll(mean, -1, axis=0)) / 4
    return found.reshape(CELLS, -1)
