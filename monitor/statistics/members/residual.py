"""What lies outside the leading principal directions, where a PCA reconstructs badly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats
from monitor.statistics.members.ranks import RankedMember

# A scan in the very subspace has no logarithm.
_LEAST_RESIDUAL = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual(RankedMember):
    """Rank of the logarithm of the squared distance from the subspace.

    `scores` are those of patients that did not shape the subspace.
    """

    @property
    def split(self) -> bool:
        return True

    def score(self, at: Coordinates) -> Floats:
        """Return [n]."""
        return log_residuals(at)


def log_residuals(at: Coordinates) -> Floats:
    """Return log squared distances from the subspace, [n]."""
    logs: Floats = np.log(np.maximum(at.outside, _LEAST_RESIDUAL))
    return logs
