"""Variances along the leading principal directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Singles
from monitor.statistics.members.member import Member

# Coordinates are cut at three standard deviations, so that one far scan is one vote.
_FARTHEST = np.float32(3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variances(Member):
    """Squared coordinates along the first directions: a change of variance, by direction.

    The effect is the root mean square change of variance.
    """

    directions: int

    @property
    def size(self) -> int:
        return self.directions

    @property
    def split(self) -> bool:
        return True

    def features(self, at: Coordinates) -> Singles:
        """Return [n, p]."""
        squares = np.square(np.clip(at.leading[:, : self.directions], -_FARTHEST, _FARTHEST))
        squares -= np.float32(1.0)
        squares *= np.float32(1.0 / np.sqrt(self.directions))
        return squares
