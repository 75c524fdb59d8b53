"""Variances along the leading principal directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Singles
from monitor.statistics.patients import Patients

# Coordinates are cut at three standard deviations, so that one far scan is one vote.
_FARTHEST = np.float32(3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variances:
    """Squared coordinates along the first directions: a change of variance, by direction."""

    name: str
    #: directions
    directions: int
    weight: float
    split: ClassVar[bool] = True
    peaked: ClassVar[bool] = False
    whitened: ClassVar[int] = 0

    @property
    def size(self) -> int:
        return self.directions

    @property
    def scale(self) -> float:
        """Return 1: the effect is the root mean square change of variance."""
        return 1.0

    def features(self, at: Coordinates) -> Singles:
        """Return [n, p]."""
        squares = np.square(np.clip(at.leading[:, : self.directions], -_FARTHEST, _FARTHEST))
        squares -= np.float32(1.0)
        squares *= np.float32(1.0 / np.sqrt(self.directions))
        return squares

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:  # noqa: ARG002
        """Not asked of a split member; return the features."""
        return self.features(at)
