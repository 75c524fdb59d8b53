"""What lies outside the leading principal directions, where a PCA reconstructs badly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.patients import Patients
from monitor.statistics.ranks import RANK_FEATURES, rank_features, ranks

# A scan in the very subspace has no logarithm.
_LEAST_RESIDUAL = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Rank of the logarithm of the squared distance from the subspace."""

    name: str
    #: [m] scores of scans of patients that did not shape the subspace, rising
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
        return rank_features(ranks(log_residuals(at), self.scores))

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:  # noqa: ARG002
        """Not asked of a split member; return the features."""
        return self.features(at)


def log_residuals(at: Coordinates) -> Floats:
    """Return log squared distances from the subspace, [n]."""
    logs: Floats = np.log(np.maximum(at.outside, _LEAST_RESIDUAL))
    return logs
