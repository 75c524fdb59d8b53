"""Counts of arrivals: negative binomial, with a burst and a spread.

A source's count over a span with mean m has variance burst * m + spread * m^2. The burst says
that arrivals come in clumps (a scanner sends its queue at once): with spread 0 the count is a
Poisson number of clumps of logarithmic size, so spans add up (Quenouille 1949, Biometrics
5:162-164). The spread says that whole spans are busier or quieter than expected: with burst 1
it is a gamma mixture of Poisson counts. Both have the form P(N = 0) = (1 + m/r)^-r, where
m/r = burst - 1 + spread * m.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, gammaln

from monitor.statistics.embeddings import Floats

#: Smaller excesses over a Poisson count's variance change no digit that is used.
_LEAST_EXCESS = 1e-6
#: A span in which nothing is expected may still bring something.
_LEAST_MEAN = 1e-9
_LEAST_PROBABILITY = 1e-300


def log_probability(
    received: npt.ArrayLike, mean: npt.ArrayLike, burst: npt.ArrayLike, spread: npt.ArrayLike
) -> Floats:
    """Return log P(N = received), broadcast over all four.

    >>> round(float(np.exp(log_probability(0, 2.0, 1.0, 0.0))), 4)
    0.1353
    """
    count = np.asarray(received, dtype=np.float64)
    size, excess = _form(mean, burst, spread)
    found: Floats = (
        gammaln(count + size)
        - gammaln(size)
        - gammaln(count + 1.0)
        - size * np.log1p(excess)
        - count * np.log1p(1.0 / excess)
    )
    return found


def log_at_most(
    received: npt.ArrayLike, mean: npt.ArrayLike, burst: npt.ArrayLike, spread: npt.ArrayLike
) -> Floats:
    """Return log P(N <= received), broadcast over all four."""
    count = np.asarray(received, dtype=np.float64)
    size, excess = _form(mean, burst, spread)
    return _log(np.asarray(betainc(size, count + 1.0, 1.0 / (1.0 + excess)), dtype=np.float64))


def log_none(mean: npt.ArrayLike, burst: npt.ArrayLike, spread: npt.ArrayLike) -> Floats:
    """Return log P(N = 0), broadcast over all three."""
    size, excess = _form(mean, burst, spread)
    found: Floats = -size * np.log1p(excess)
    return found


def log_at_least(
    received: npt.ArrayLike, mean: npt.ArrayLike, burst: npt.ArrayLike, spread: npt.ArrayLike
) -> Floats:
    """Return log P(N >= received), broadcast over all four."""
    count = np.asarray(received, dtype=np.float64)
    size, excess = _form(mean, burst, spread)
    # At 0 the upper tail is all there is; the incomplete beta function is not defined there.
    tail = betainc(np.maximum(count, 1.0), size, excess / (1.0 + excess))
    return _log(np.where(count > 0, tail, 1.0))


def clumps_per_arrival(burst: npt.ArrayLike) -> Floats:
    """Return how many clumps stand behind one arrival: log(burst) / (burst - 1), at most 1.

    >>> round(float(clumps_per_arrival(1.0)), 3), round(float(clumps_per_arrival(2.0)), 3)
    (1.0, 0.693)
    """
    excess = np.maximum(np.asarray(burst, dtype=np.float64) - 1.0, _LEAST_EXCESS)
    found: Floats = np.log1p(excess) / excess
    return found


def _form(
    mean: npt.ArrayLike, burst: npt.ArrayLike, spread: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Return r, and m/r."""
    expected = np.maximum(np.asarray(mean, dtype=np.float64), _LEAST_MEAN)
    excess = np.maximum(
        np.asarray(burst, dtype=np.float64) - 1.0 + np.asarray(spread) * expected,
        _LEAST_EXCESS,
    )
    return expected / excess, excess


def _log(probability: Floats) -> Floats:
    found: Floats = np.log(np.maximum(probability, _LEAST_PROBABILITY))
    return found
