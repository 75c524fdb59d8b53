"""Coordinates in which what is known varies alike in all directions."""

from __future__ import annotations

import numpy as np

from monitor.statistics.embeddings import Floats

_LEAST = 1e-9


def unit_variance(values: Floats, *, shrinkage: float) -> Floats:
    """Return the map [p, p] of values [n, p] to coordinates of unit variance.

    Parameters
    ----------
    shrinkage : of the mean variance, what is added to each direction's
    """
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(values.T)))
    variances = np.maximum(variances, 0.0)
    return np.asarray(directions / np.sqrt(variances + shrinkage * variances.mean() + _LEAST))
