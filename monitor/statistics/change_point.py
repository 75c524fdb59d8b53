"""When a shift began: the change point of scores in the order of arrival.

Before the change scores have mean zero, since they are measured from the reference; after
it they have a mean of their own. The likelihood of a change at k, maximised over that mean,
is S_k^2 / (2 m_k v) with S_k the sum of the m_k scores from k on and v their variance about
the two means (Hinkley 1970, *Biometrika* 57:1-17).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats
from registry.errors import InsufficientDataError

_LEAST_SCORES = 10
# Log-likelihood that a change point in the interval may lack: 95 of 100 true changes or more
# were inside, for shifts of half a standard deviation to two (tests/monitor/statistics).
_DROP = 3.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """Where the mean of scores rose."""

    #: the first score after the change
    index: int
    #: bounds of a 95 % interval, both inclusive
    low: int
    high: int


def change_point(scores: Floats) -> ChangePoint:
    """Return the most likely change point of scores whose mean rose from zero.

    Parameters
    ----------
    scores : [n] in the order of arrival; positive scores speak for the shift

    Raises
    ------
    InsufficientDataError
        For fewer than 10 scores.

    Examples
    --------
    >>> change_point(np.r_[np.tile([1.0, -1.0], 20), np.tile([5.0, 3.0], 20)]).index
    40
    """
    n = len(scores)
    if n < _LEAST_SCORES:
        raise InsufficientDataError(
            what="scans to find an onset in", needed=_LEAST_SCORES, got=n
        )
    sums = np.cumsum(scores[::-1], dtype=np.float64)[::-1]
    sizes = np.arange(n, 0, -1)
    # A shift lets scores rise: falling ones are no change.
    explained = np.maximum(sums, 0.0) ** 2 / sizes
    best = int(explained.argmax())
    residual = float(np.square(scores).sum() - explained[best])
    variance = max(residual / n, 1e-300)
    inside = np.flatnonzero((explained[best] - explained) / (2.0 * variance) <= _DROP)
    return ChangePoint(index=best, low=int(inside[0]), high=int(inside[-1]))
