"""Nearest-neighbour novelty: how far a scan lies from the closest one seen before.

Only scans farther out than half of the reference's count: those that lie close are not
news, and a window that shares scans with the reference must not look strange for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.distances import squared_distances
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.members.ranks import RankedMember

# A copy of a landmark has no logarithm.
_LEAST_SQUARED_DISTANCE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty(RankedMember):
    """Rank of the logarithm of the distance to the nearest landmark.

    `scores` are those of patients that did not give the landmarks.
    """

    #: [k, p] scans of shaping patients along the leading directions
    landmarks: Singles

    @property
    def split(self) -> bool:
        return True

    def score(self, at: Coordinates) -> Floats:
        """Return [n]."""
        usual = float(np.median(self.scores))
        return np.maximum(log_nearest(at, self.landmarks), usual)


def log_nearest(at: Coordinates, landmarks: Singles) -> Floats:
    """Return log squared distances to the nearest landmark, [n]."""
    points = at.leading[:, : landmarks.shape[1]]
    squared = squared_distances(points, landmarks).min(axis=1)
    logs: Floats = np.log(np.maximum(squared.astype(np.float64), _LEAST_SQUARED_DISTANCE))
    return logs
