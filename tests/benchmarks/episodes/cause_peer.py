"""Shift identification as Roschewitz et al. describe it, beside ours on the same windows.

M. Roschewitz, R. Mehta, C. Jones, B. Glocker (2025), *Automatic dataset shift identification
to support safe deployment of medical imaging AI*, MICCAI; arXiv 2411.07940. Written from the
paper's description:

1. detect by "Duo": a permutation test of the MMD on 32 principal components of a
   self-supervised encoder's features (here the monitoring encoder's), beside
   Kolmogorov-Smirnov tests of the task model's outputs, one for each class, at the level
   over the number of tests;
2. estimate the prevalence (by class probability matching with calibrated outputs; here that
   of Wen et al. 2024, which two classes reduce to one equation), and draw the reference anew
   without replacement to have it;
3. test again. If the features no longer differ, it is a prevalence shift. If they do, it is
   a mixed shift where the outputs differed before and do not now, else a covariate shift.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import ks_2samp
from sklearn.decomposition import PCA

from monitor.statistics.exact.kernels import mmd_test

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

_ALPHA = 0.05
_COMPONENTS = 32
_PERMUTATIONS = 299


class _Finding(Protocol):
    probabilities: Floats
    finding: Floats


class _View(Protocol):
    finding: _Finding


class Peer:
    """The method, for one reference."""

    def __init__(self, features: Singles, champion: _View) -> None:
        self.features = features
        self.probabilities = champion.finding.probabilities
        self.finding = champion.finding.finding

    def identify(self, features: Singles, probabilities: Floats, *, seed: int) -> str:
        """Return "none", "prevalence", "covariate" or "mixed"."""
        rng = np.random.default_rng(seed)
        size = len(self.features)
        both = _components(np.concatenate([self.features, features]), seed=seed)
        ours, theirs = both[:size], both[size:]
        outputs = _outputs_p_value(self.probabilities, probabilities)
        pixels = _features_p_value(ours, theirs, seed=seed)
        # Two classes have two outputs, tested one by one, beside the features.
        if min(outputs, pixels) >= _ALPHA / 3:
            return "none"
        rows = self._resampled(self._prevalence(probabilities), rng)
        if _features_p_value(ours[rows], theirs, seed=seed + 1) >= _ALPHA:
            return "prevalence"
        again = _outputs_p_value(self.probabilities[rows], probabilities)
        if outputs < _ALPHA / 2 <= again:
            return "mixed"
        return "covariate"

    def _prevalence(self, probabilities: Floats) -> float:
        before = float(self.finding.mean())

        def gap(after: float) -> float:
            with_finding, without = after / before, (1.0 - after) / (1.0 - before)
            mixed = probabilities * with_finding + (1.0 - probabilities) * without
            return float(np.mean(probabilities / mixed)) - before

        low, high = 0.002, 0.998
        if gap(low) * gap(high) > 0:
            return low if abs(gap(low)) < abs(gap(high)) else high
        return float(brentq(gap, low, high))

    def _resampled(self, prevalence: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        ill = self.finding > 0.5
        having, without = np.flatnonzero(ill), np.flatnonzero(~ill)
        total = min(len(having) / prevalence, len(without) / (1.0 - prevalence), len(ill))
        counts = int(total * prevalence), int(total * (1.0 - prevalence))
        return np.concatenate(
            [
                rng.choice(rows, max(count, 1), replace=False)
                for rows, count in zip((having, without), counts, strict=True)
            ]
        )


def _components(features: Singles, *, seed: int) -> Singles:
    fitted = PCA(_COMPONENTS, svd_solver="randomized", random_state=seed)
    return np.asarray(fitted.fit_transform(features), dtype=np.float32)


def _features_p_value(ours: Singles, theirs: Singles, *, seed: int) -> float:
    return mmd_test(ours, theirs, permutations=_PERMUTATIONS, seed=seed).p_value


def _outputs_p_value(ours: Floats, theirs: Floats) -> float:
    # Both outputs of two classes give the same p-value.
    return float(ks_2samp(ours, theirs).pvalue)
