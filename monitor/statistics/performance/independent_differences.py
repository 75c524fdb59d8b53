"""Two estimates from different patients: their difference, by joining their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from scipy.optimize import brentq
from scipy.special import ndtr

from monitor.statistics.performance.proportions import Interval, quantile_of

#: Beyond it a tail probability is below 1e-15, and a p-value is not told from 0.
_LARGEST_QUANTILE = 8.0


class Bounded(Protocol):
    """An estimate with an interval at every level: a proportion, or an area."""

    @property
    def estimate(self) -> float:
        """The estimate, in [0, 1]."""

    def bounds(self, z: float) -> tuple[float, float]:
        """Return the interval's bounds at a standard normal quantile z >= 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndependentDifference:
    """Second less first, of different patients."""

    first: Bounded
    second: Bounded
    interval: Interval

    @property
    def estimate(self) -> float:
        return self.second.estimate - self.first.estimate

    def p_greater(self, than: float) -> float:
        """Return the one-sided p-value against "the difference is at most `than`".

        It inverts the interval: the tail beyond the quantile at which a bound meets
        `than`, no smaller than the normal's tail beyond 8.
        """

        def excess(z: float) -> float:
            low, high = _joined_bounds(self.first, self.second, z=abs(z))
            return (low if z > 0 else high) - than

        if excess(_LARGEST_QUANTILE) >= 0.0:
            return float(ndtr(-_LARGEST_QUANTILE))
        if excess(-_LARGEST_QUANTILE) <= 0.0:
            return float(ndtr(_LARGEST_QUANTILE))
        return float(ndtr(-brentq(excess, -_LARGEST_QUANTILE, _LARGEST_QUANTILE)))


def independent_difference(
    first: Bounded, second: Bounded, *, level: float
) -> IndependentDifference:
    """Return second less first for estimates from different patients.

    The intervals' arms are joined as the square root of squares: with Wilson's intervals
    this is method 10 of Newcombe (1998), Statistics in Medicine 17:873-890; for any others,
    Zou and Donner (2008), Statistics in Medicine 27:1693-1702.
    """
    low, high = _joined_bounds(first, second, z=quantile_of(level))
    return IndependentDifference(
        first=first, second=second, interval=Interval(low=low, high=high, level=level)
    )


def _joined_bounds(first: Bounded, second: Bounded, *, z: float) -> tuple[float, float]:
    difference = second.estimate - first.estimate
    first_low, first_high = first.bounds(z)
    second_low, second_high = second.bounds(z)
    below = math.hypot(second.estimate - second_low, first_high - first.estimate)
    above = math.hypot(second_high - second.estimate, first.estimate - first_low)
    return max(-1.0, difference - below), min(1.0, difference + above)
