"""Nearest-neighbour novelty: how far a scan lies from the closest one seen before.

Only scans farther out than half of the reference's count: those that lie close are not
news, and a window that shares scans with the reference must not look strange for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.patients import Patients
from monitor.statistics.ranks import RANK_FEATURES, rank_features, ranks

# A copy of a landmark has no logarithm.
_LEAST_SQUARED_DISTANCE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """Rank of the logarithm of the distance to the nearest landmark."""

    name: str
    #: [k, p] scans of shaping patients along the leading directions
    landmarks: Singles
    #: [m] scores of scans of other patients, rising
    scores: Floats
    weight: float
    split: ClassVar[bool] = True
    peaked: ClassVar[bool] = False
    whitened: ClassVar[int] = 0

    @property
    def size(self) -> int:
        return RANK_FEATURES

    @property
    def scale(self) -> float:
        """Return 1: the effect is in standard deviations of the rank's normal score."""
        return 1.0

    def features(self, at: Coordinates) -> Singles:
        """Return [n, 3]."""
        usual = float(np.median(self.scores))
        logs = np.maximum(log_nearest(at, self.landmarks), usual)
        return rank_features(ranks(logs, self.scores))

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:  # noqa: ARG002
        """Not asked of a split member; return the features."""
        return self.features(at)


def log_nearest(at: Coordinates, landmarks: Singles) -> Floats:
    """Return log squared distances to the nearest landmark, [n]."""
    points = at.leading[:, : landmarks.shape[1]]
    squared = squared_distances(points, landmarks).min(axis=1)
    logs: Floats = np.log(np.maximum(squared.astype(np.float64), _LEAST_SQUARED_DISTANCE))
    return logs


def squared_distances(points: Singles, others: Singles) -> Singles:
    """Return squared distances between two sets of points, [n, k]."""
    squared: Singles = points @ (np.float32(-2.0) * others.T)
    squared += np.einsum("ij,ij->i", points, points)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    return squared
