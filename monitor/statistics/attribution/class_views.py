"""The prevalence as several views see it, which agree if it changed and differ if scans did.

A view is a set of numbers of a scan: directions of an embedding, gray values, texture. In each
a linear discriminant (Fisher 1936) tells scans with the finding from those without. Under
label shift the mean of any score is the mixture of the classes' means, so that

    w = (mean of the window - m0) / (m1 - m0)

is an unbiased estimate of the prevalence in every view (Forman 2008, *Data Mining and
Knowledge Discovery* 17:164-206, for a classifier's counts). A change of the image chain moves
each view in its own way, and leaves some alone: the estimates then contradict one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitor.statistics.attribution.deformed_mixture import DeformedMixture, ScoreDensities
from monitor.statistics.embeddings import Floats

_FOLDS = 5
# Of the mean variance within classes.
_RIDGE = 0.05
#: scores are cut off here: log-odds
_SUREST = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassView:
    """A discriminant between scans with and without the finding, and its scores."""

    #: [p] log-odds of a scan x are direction . x + offset
    direction: Floats
    offset: float
    #: [2] mean score of reference scans without and with the finding, and their variances
    means: Floats
    variances: Floats
    #: [2] of scans
    counts: Floats
    densities: ScoreDensities

    @classmethod
    def fit(cls, values: Floats, finding: Floats, *, seed: int) -> ClassView:
        """Fit a discriminant; the reference's own scores are by one that did not see them.

        Parameters
        ----------
        values : [N, p]
        finding : [N] 0 to 1
        seed : of the folds
        """
        fold = np.random.default_rng(seed).permutation(len(values)) % _FOLDS
        scores = np.empty(len(values))
        for k in range(_FOLDS):
            direction, offset = _discriminant(values[fold != k], finding[fold != k])
            scores[fold == k] = values[fold == k] @ direction + offset
        direction, offset = _discriminant(values, finding)
        return cls._of(scores, finding, direction=direction, offset=offset)

    @classmethod
    def of_log_odds(cls, odds: Floats, finding: Floats) -> ClassView:
        """Return the view of a champion, whose log-odds are at hand."""
        return cls._of(odds, finding, direction=np.ones(1), offset=0.0)

    @classmethod
    def _of(
        cls, scores: Floats, finding: Floats, *, direction: Floats, offset: float
    ) -> ClassView:
        cut = np.clip(scores, -_SUREST, _SUREST)
        shares = np.stack([1.0 - finding, finding])
        counts = shares.sum(axis=1)
        means = shares @ cut / counts
        squares = np.square(cut - means[:, None])
        return cls(
            direction=direction,
            offset=offset,
            means=means,
            variances=np.einsum("kn,kn->k", shares, squares) / counts,
            counts=counts,
            densities=ScoreDensities.fit(scores, finding),
        )

    @property
    def separation(self) -> float:
        """Distance of the classes in deviations of their scores.

        Without end where all scores of a class are alike, and the classes' differ; 0 where
        these are alike, too.
        """
        apart, deviation = float(np.diff(self.means)[0]), float(np.sqrt(self.variances.mean()))
        if deviation == 0.0:
            return math.copysign(math.inf, apart) if apart else 0.0
        return apart / deviation

    def read(self, values: Floats, *, prevalence: float) -> ViewReading:
        """Return what the view says of a window [n, p], beside the reference's prevalence."""
        odds = values @ self.direction + self.offset
        cut = np.clip(odds, -_SUREST, _SUREST)
        apart = max(float(self.means[1] - self.means[0]), 1e-6)
        found = (float(cut.mean()) - float(self.means[0])) / apart
        error = np.sqrt(cut.var() / len(cut) + self._own_variance(found)) / apart
        return ViewReading(
            change=found - prevalence,
            error=max(float(error), 1e-6),
            deformed=self.densities.explain(odds),
        )

    def _own_variance(self, found: float) -> float:
        """Return the variance of the reference's mean score at a prevalence."""
        shares = np.array([1.0 - found, found])
        return float(np.square(shares) @ (self.variances / self.counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReading:
    """One view's word on a window's prevalence."""

    #: of the prevalence, with its standard error, if nothing else changed
    change: float
    error: float
    #: the same from the shape alone
    deformed: DeformedMixture

    @property
    def evidence(self) -> float:
        """The change in standard errors."""
        return self.change / self.error


def _discriminant(values: Floats, finding: Floats) -> tuple[Floats, float]:
    """Return direction [p] and offset of Fisher's discriminant, on the scale of log-odds."""
    shares = np.stack([1.0 - finding, finding])
    counts = shares.sum(axis=1)
    means = shares @ values / counts[:, None]
    within = np.zeros((values.shape[1], values.shape[1]))
    for own, mean in zip(shares, means, strict=True):
        about = values - mean
        within += (own[:, None] * about).T @ about
    within /= len(values)
    within.flat[:: len(within) + 1] += _RIDGE * max(
        float(np.trace(within)) / len(within), 1e-12
    )
    direction = np.linalg.solve(within, means[1] - means[0])
    offset = -float(direction @ (means[0] + means[1])) / 2.0
    return direction, offset + float(np.log(counts[1] / counts[0]))
