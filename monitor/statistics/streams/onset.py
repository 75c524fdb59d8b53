"""When a shift began, from the scans before an alarm.

Of H units (patients) in a row, all from the k-th on are taken to have shifted by one vector
of unknown direction. With p effective directions of variance sigma^2 and the shift drawn
from a normal law of s sigma^2 in each, their summed score S_k of mass n_k has

    log LR(k, s) = p/2 ( s n_k / (1 + s n_k) |S_k|^2 / (p sigma^2 n_k) - log(1 + s n_k) ),

which is averaged over s on a grid and, with every k alike beforehand, normed to a posterior
over k (Smith 1975, *Biometrika* 62:407-416, for one change of a normal mean). The direction
need not be known, so that scans which an alarm rests on do not date it too early or late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from monitor.statistics.embeddings import Floats

# Squared shifts by direction, in variances: from what 3,000 scans would hardly show along
# one direction to a whole standard deviation in each.
_SIZES = np.geomspace(1e-4, 1.0, 17)
_LEVEL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Onset:
    """The unit from which on a shift is there, with the interval that holds it in 9 of 10."""

    unit: int
    low: int
    high: int


def onset(scores: Floats, masses: Floats, *, trace: float, spread: float) -> Onset:
    """Date a shift.

    Parameters
    ----------
    scores : [H, s] of units about the mean before the shift, oldest first
    masses : [H] effective number of scans of each
    trace : variance of one scan's features, tr V of their covariance V
    spread : tr V^2 / tr V, the variance along a random direction
    """
    directions = trace / spread
    summed = np.cumsum(scores[::-1], axis=0, dtype=np.float64)[::-1]
    mass = np.cumsum(masses[::-1], dtype=np.float64)[::-1]
    standard = np.square(summed).sum(axis=1) / (trace * mass)
    grown = _SIZES[:, None] * mass
    ratios = 0.5 * directions * (grown / (1.0 + grown) * standard - np.log1p(grown))
    by_unit = logsumexp(ratios, axis=0)
    posterior = np.cumsum(np.exp(by_unit - logsumexp(by_unit)))
    tail = (1.0 - _LEVEL) / 2.0
    low, middle, high = (
        min(int(np.searchsorted(posterior, level)), len(scores) - 1)
        for level in (tail, 0.5, 1.0 - tail)
    )
    return Onset(unit=middle, low=low, high=high)
