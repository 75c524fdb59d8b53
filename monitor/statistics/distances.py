"""Distances between points, all of one set to all of another."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from monitor.statistics.embeddings import Singles


def squared_distances(points: Singles, others: Singles) -> Singles:
    """Return squared distances between two sets of points, [n, k]."""
    squared: Singles = points @ (np.float32(-2.0) * others.T)
    squared += np.einsum("ij,ij->i", points, points)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    return squared


def median_distance(points: Singles) -> float:
    """Return the median distance between different points [n, k], the usual bandwidth."""
    median = float(np.median(pdist(points.astype(np.float64))))
    # More than half of the pairs are duplicates: any positive bandwidth is as good.
    return median if median > 0 else 1.0
