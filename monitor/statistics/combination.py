"""From the members' p-values to one.

The evidence is the logarithm of a weighted mean of 1/p, the harmonic mean p-value (Wilson
2019, PNAS 116:1195-1200): led by the smallest p-value as their minimum is, but stronger
when several agree, and insensitive to how dependent the members are. Its own distribution
is never assumed: it is calibrated on joint draws of all members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc

from monitor.statistics.embeddings import Floats

# A skewness of zero would be a normal law, whose gamma shape is infinite; squared
# distances always have a right tail.
_LEAST_SKEWNESS = 0.05
# 1/p is averaged: beyond this, a tail that was fitted to some thousand draws says nothing.
_SMALLEST_LOG_P = -60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """Pearson III laws, one per member, fitted to draws by three moments.

    The law of a weighted sum of squares is close to a shifted gamma (Imhof 1961,
    *Biometrika* 48:419-426); being smooth it has no ties and reaches beyond the draws.
    """

    #: [G]
    means: Floats
    #: [G]
    deviations: Floats
    #: [G]
    skewnesses: Floats

    @classmethod
    def of(cls, draws: Floats) -> Tails:
        """Fit to draws [B, G]."""
        means, deviations = draws.mean(axis=0), draws.std(axis=0)
        deviations = np.maximum(deviations, np.finfo(np.float64).tiny)
        skewnesses = (((draws - means) / deviations) ** 3).mean(axis=0)
        return cls(
            means=means,
            deviations=deviations,
            skewnesses=np.maximum(skewnesses, _LEAST_SKEWNESS),
        )

    def log_p(self, statistics: Floats) -> Floats:
        """Return log P(T >= statistic), [..., G]."""
        shape = 4.0 / self.skewnesses**2
        standard = (statistics - self.means) / self.deviations
        tail = gammaincc(shape, np.maximum(shape + standard * np.sqrt(shape), 0.0))
        log_p: Floats = np.clip(np.log(np.maximum(tail, 1e-300)), _SMALLEST_LOG_P, 0.0)
        return log_p


def evidence(log_p: Floats, weights: Floats) -> Floats:
    """Return log sum(w / p) / sum(w) over the members, [...], of log p-values [..., G].

    Examples
    --------
    >>> evidence(np.log([[0.01, 0.5], [0.2, 0.2]]), np.array([1.0, 1.0])).round(2).tolist()
    [3.93, 1.61]
    """
    voting = weights > 0
    shares = weights[voting] / weights.sum()
    voices = -log_p[..., voting]
    # By hand, since scipy's logsumexp costs as much as a tenth of a check.
    loudest = voices.max(axis=-1, keepdims=True)
    combined: Floats = loudest[..., 0] + np.log(np.exp(voices - loudest) @ shares)
    return combined


def exceedance(draws: Floats, value: float) -> float:
    """Return (1 + draws at or above the value) / (1 + draws); `draws` [B] are rising."""
    at_least = len(draws) - int(np.searchsorted(draws, value, side="left"))
    return (1 + at_least) / (1 + len(draws))
