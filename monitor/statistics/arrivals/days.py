"""Days that all sources share: ordinary ones, holidays and unusual ones; p-values given the others.

A holiday empties every scanner of a hospital at once, so a source is judged by what the others
received in the same span. Each day is of a hidden kind with a factor on everybody's means:

- ordinary: the factor is gamma around 1;
- at rest: every source behaves as on the quietest day of its own week (an emergency scanner
  goes on, an outpatient one stops);
- unusual: everybody between a fifth and twice of ordinary.

Kinds persist from day to day (a hidden Markov chain), and the others' counts weigh them. On a
day that a calendar lists as a holiday they are drawn with weights of their own: most often at
rest, sometimes unusual, seldom ordinary. These weights are learnt from past listed days, point by
point, so that a hospital's own holidays tell how much is left on one. Listed days persist among
themselves and say nothing of the days around them, nor these of them.

The shared factor may excuse a source and never accuses it: where it says that more was to be
expected than on an ordinary day, too few is still judged against an ordinary day, and too many
likewise. So another source's storm makes no quiet source suspicious.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from monitor.statistics.arrivals.counts import log_at_least, log_at_most, log_probability
from monitor.statistics.embeddings import Floats

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

ORDINARY, AT_REST, UNUSUAL = range(3)
#: Of the days that are not ordinary, those at rest.
_REST_SHARE = 0.6
#: A day is of the kind of the day before with this probability, else drawn anew.
_PERSISTENCE = 0.7
#: Variance of the factor on days at rest: no two holidays are alike.
_REST_SPREAD = 0.1
_UNUSUAL = (0.2, 2.0)
#: What is believed of a listed holiday before one was seen, by kind, and how many it weighs.
_HOLIDAY_KINDS = (0.05, 0.75, 0.2)
_HOLIDAY_DAYS = 4.0
_POINTS = {ORDINARY: 15, AT_REST: 9, UNUSUAL: 10}


@dataclass(frozen=True, kw_only=True)
class SharedDays:
    """What days may be like.

    Parameters
    ----------
    spread : variance of an ordinary day's factor
    exceptional_share : share of days that are not ordinary, of those that no calendar lists
    holiday : probability of each point of the grid on a listed holiday, [C]; None before one
        was seen
    """

    spread: float
    exceptional_share: float
    holiday: Floats | None = None

    @cached_property
    def kinds(self) -> Integers:
        """The kind of each point of the grid, [C]."""
        return np.repeat(list(_POINTS), list(_POINTS.values()))

    @cached_property
    def factors(self) -> Floats:
        """The factor at each point of the grid, [C]."""
        return np.concatenate(
            [
                _gamma_points(self.spread, _POINTS[ORDINARY]),
                _gamma_points(_REST_SPREAD, _POINTS[AT_REST]),
                np.geomspace(*_UNUSUAL, _POINTS[UNUSUAL]),
            ]
        )

    @cached_property
    def log_weights(self) -> Floats:
        """Log probability of each point, given its kind, [C]."""
        return np.concatenate(
            [
                _gamma_weights(self.spread, _POINTS[ORDINARY]),
                _gamma_weights(_REST_SPREAD, _POINTS[AT_REST]),
                np.full(_POINTS[UNUSUAL], -np.log(_POINTS[UNUSUAL])),
            ]
        )

    @cached_property
    def shares(self) -> Floats:
        """Share of each kind, [3]."""
        rest = self.exceptional_share * _REST_SHARE
        return np.array([1 - self.exceptional_share, rest, self.exceptional_share - rest])

    @cached_property
    def holiday_points(self) -> Floats:
        """The probability of each point of the grid on a listed holiday, [C]."""
        if self.holiday is not None:
            return self.holiday
        weights = np.exp(self.log_weights) * np.array(_HOLIDAY_KINDS)[self.kinds]
        found: Floats = weights / weights.sum()
        return found

    @cached_property
    def _log_kinds(self) -> tuple[Floats, Floats]:
        """The log share of each kind, [3], on days that are not listed and on those that are."""
        listed = np.add.reduceat(self.holiday_points, self._first_of_kind)
        return np.log(self.shares), np.log(listed)

    @cached_property
    def _log_holiday_weights(self) -> Floats:
        """Log probability of each point on a listed holiday, given its kind, [C]."""
        found: Floats = np.log(self.holiday_points) - self._log_kinds[1][self.kinds]
        return found

    def on_holiday(self, expected: Floats, at_rest: Floats) -> Floats:
        """Return the means of a listed holiday, no larger than those of an ordinary day, [...]."""
        rest = self.kinds == AT_REST
        of_rest = self.holiday_points[rest] @ self.factors[rest]
        left = self.holiday_points[~rest] @ np.minimum(self.factors[~rest], 1.0)
        found: Floats = np.minimum(of_rest * at_rest + left * expected, expected)
        return found

    def with_holidays(self, log_received: Floats) -> SharedDays:
        """Return the same with what listed holidays teach.

        Parameters
        ----------
        log_received : log probability of what each of them brought, at each point, [D, C]
        """
        joint = log_received + np.log(self.holiday_points)
        seen = np.exp(joint - _log_sum(joint)[:, None])
        weights = _HOLIDAY_DAYS * self.holiday_points + seen.sum(axis=0)
        return replace(self, holiday=weights / weights.sum())

    def means(self, expected: Floats, at_rest: Floats) -> Floats:
        """Return means at each point, [..., C], of those of an ordinary day and one at rest."""
        base = np.where(self.kinds == AT_REST, at_rest[..., None], expected[..., None])
        found: Floats = base * self.factors
        return found

    def posterior(self, log_others: Floats) -> Floats:
        """Return the probability of each point, [..., C], given what it makes of the others.

        Days are taken one by one, whatever the days before were like.
        """
        joint = log_others + self.log_weights + np.log(self.shares)[self.kinds]
        found: Floats = np.exp(joint - _log_sum(joint)[..., None])
        return found

    def log_conditional(
        self, log_own: Floats, log_others: Floats, holidays: Booleans | None = None
    ) -> Floats:
        """Return log P(own | others), [...], of days in a row, each [..., D, C].

        Parameters
        ----------
        holidays : which of the days are listed, [..., D]; None for none
        """
        if holidays is None or not holidays.any():
            holidays = np.zeros(log_others.shape[:-1], dtype=np.bool_)
        return self._forward(log_own + log_others, holidays) - self._forward(
            log_others, holidays
        )

    def _forward(self, terms: Floats, holidays: Booleans) -> Floats:
        """Return the log probability of days in a row, over kinds and factors."""
        usual, listed = self._log_kinds
        log_weights, anew = self.log_weights, usual
        if holidays.any():
            of_holiday = holidays[..., None]
            log_weights = np.where(of_holiday, self._log_holiday_weights, log_weights)
            anew = np.where(of_holiday, listed, usual)
        anew = np.broadcast_to(anew, (*holidays.shape, len(usual)))
        by_kind = _log_sums(terms + log_weights, self._first_of_kind)
        state = anew[..., 0, :] + by_kind[..., 0, :]
        for day in range(1, by_kind.shape[-2]):
            drawn = _log_sum(state)[..., None] + anew[..., day, :]
            lasting = np.logaddexp(
                np.log(_PERSISTENCE) + state, np.log1p(-_PERSISTENCE) + drawn
            )
            alike = holidays[..., day] == holidays[..., day - 1]
            state = np.where(alike[..., None], lasting, drawn) + by_kind[..., day, :]
        return _log_sum(state)

    @cached_property
    def _first_of_kind(self) -> Integers:
        return np.flatnonzero(np.diff(self.kinds, prepend=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one source and the others were expected to send in a span, and sent.

    Any leading shape [...] is judged at once; D days are touched by a span.
    """

    #: by the source, [...]
    received: Floats
    #: on ordinary days and on days at rest, [..., D]
    expected: Floats
    at_rest: Floats
    others_received: Floats
    others_expected: Floats
    others_at_rest: Floats
    #: of the source and of the others together, scalars or [..., 1, 1]
    burst: npt.ArrayLike
    spread: npt.ArrayLike
    others_burst: npt.ArrayLike
    others_spread: npt.ArrayLike
    #: which days are listed as holidays, [..., D]; None for none
    holidays: Booleans | None = None

    def too_few(self, shared: SharedDays) -> Floats:
        """Return log P(no more than was received | the others), [...].

        A span over several days is judged as none received on any of them, so
        it takes `received` 0.
        """
        ordinary = self.expected[..., None]
        means = np.minimum(shared.means(self.expected, self.at_rest), ordinary)
        received = self.received[..., None, None]
        return self._given_others(shared, log_at_most(received, means, self.burst, self.spread))

    def too_many(self, shared: SharedDays) -> Floats:
        """Return log P(no fewer than were received | the others), [...]; D is 1."""
        ordinary = self.expected[..., None]
        means = np.maximum(shared.means(self.expected, self.at_rest), ordinary)
        received = self.received[..., None, None]
        return self._given_others(
            shared, log_at_least(received, means, self.burst, self.spread)
        )

    def log_others(self, shared: SharedDays) -> Floats:
        """Return the log probability of what the others sent, [..., D, C]."""
        return log_probability(
            self.others_received[..., None],
            shared.means(self.others_expected, self.others_at_rest),
            self.others_burst,
            self.others_spread,
        )

    def _given_others(self, shared: SharedDays, log_own: Floats) -> Floats:
        conditional = shared.log_conditional(log_own, self.log_others(shared), self.holidays)
        return np.minimum(conditional, 0.0)


def _gamma_points(spread: float, points: int) -> Floats:
    """Return factors from four standard deviations below 1 to five above, [points]."""
    deviation = np.sqrt(spread)
    return np.linspace(max(0.05, 1 - 4 * deviation), 1 + 5 * deviation, points)


def _gamma_weights(spread: float, points: int) -> Floats:
    """Return the log weights of a gamma distribution of mean 1 at its points, [points]."""
    shape = 1.0 / spread
    at = _gamma_points(spread, points)
    density = shape * np.log(shape) - gammaln(shape) + (shape - 1) * np.log(at) - shape * at
    found: Floats = density - _log_sum(density)
    return found


def _log_sum(terms: Floats) -> Floats:
    """Return log sum exp over the last axis; SciPy's costs a millisecond a call."""
    highest = terms.max(axis=-1, keepdims=True)
    found: Floats = highest[..., 0] + np.log(np.exp(terms - highest).sum(axis=-1))
    return found


def _log_sums(terms: Floats, starts: Integers) -> Floats:
    """Return log sum exp over each part of the last axis that begins at one of `starts`."""
    highest = terms.max(axis=-1, keepdims=True)
    # Parts that vanish beside the highest term stay finite.
    sums = np.add.reduceat(np.exp(np.maximum(terms - highest, -700.0)), starts, axis=-1)
    found: Floats = highest + np.log(sums)
    return found
