"""Shift of the mean along whitened principal directions.

Every scan is whitened along the first p principal directions and brought to length one:
heavy tails then cannot drown a shift of the mean, and the features' total variance is
known (the spatial sign of Oja 2010, *Multivariate Nonparametric Methods with R*,
chapter 8). The U-statistic of their mean is a Hotelling statistic that needs no n > p
(Wang, Peng & Li 2015, JASA 110:1658-1669).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.members.member import Member

_SHORTEST = np.float32(1e-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhitenedMean(Member):
    """Whitened directions of scans, or (`directional=False`) whitened scans themselves.

    Reference scans keep their features: one that is taken out of the fit keeps its whitened
    direction (Sherman & Morrison 1950), and only its length changes.
    """

    #: [p] held-out variances of the first p principal directions
    variances: Floats
    directional: bool = True

    @property
    def size(self) -> int:
        return len(self.variances)

    @property
    def scale(self) -> float:
        """From shifts of unit vectors to standard deviations: their mean square is 1/p."""
        return float(np.sqrt(self.size)) if self.directional else 1.0

    @property
    def whitened(self) -> int:
        return self.size

    def features(self, at: Coordinates) -> Singles:
        """Return [n, p]."""
        deviations = np.sqrt(self.variances).astype(np.float32)
        white: Singles = at.principal[:, : self.size] / deviations
        if not self.directional:
            return white
        lengths = np.sqrt(np.einsum("ij,ij->i", white, white))
        white /= np.maximum(lengths, _SHORTEST)[:, None]
        return white
