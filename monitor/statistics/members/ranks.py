"""Ranks of a score among the reference's own, compared by smooth functions of them.

The normal score of the rank compares location (van der Waerden 1952, *Indagationes
Mathematicae* 14:453-458), the second and third Legendre polynomials compare spread and
asymmetry (the smooth test of Neyman 1937, *Skandinavisk Aktuarietidskrift* 20:149-199).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.members.member import Member

# Falling weights: most of what changes a distance moves its location.
_WEIGHTS = (1.0, 0.4, 0.2)
#: features of each score
RANK_FEATURES = len(_WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedMember(Member):
    """A member that compares the distribution of a score; effects are in normal scores."""

    #: [m] the reference's own scores, rising
    scores: Floats

    @property
    def size(self) -> int:
        return RANK_FEATURES

    @abstractmethod
    def score(self, at: Coordinates) -> Floats:
        """Return the score of scans that the map was not fitted on, [n]."""

    def features(self, at: Coordinates) -> Singles:
        """Return [n, 3]."""
        return self.ranked(self.score(at))

    def ranked(self, scores: Floats) -> Singles:
        """Return the features of scores [n], [n, 3]."""
        return rank_features(ranks(scores, self.scores))


def ranks(scores: Floats, reference: Floats) -> Floats:
    """Return each score's rank among the reference's (rising), in (0, 1), [n].

    Linear between neighbours: a reference scan meets its own score there, and a rank that
    jumped at it would hang on the last bit of either.
    """
    places = np.interp(scores, reference, np.arange(1, len(reference) + 1))
    return np.asarray(places / (len(reference) + 1))


def rank_features(ranks: Floats) -> Singles:
    """Return weighted features of location, spread and asymmetry of ranks in (0, 1), [n, 3].

    Each has mean zero, and variance one but for its weight, when ranks are uniform.

    Examples
    --------
    >>> rank_features(np.array([0.5, 0.9])).astype(float).round(2).tolist()
    [[0.0, -0.45, 0.0], [1.28, 0.41, 0.04]]
    """
    u = 2.0 * ranks - 1.0
    location, spread, asymmetry = _WEIGHTS
    return np.stack(
        [
            location * ndtri(ranks),
            spread * np.sqrt(5.0) * (1.5 * u**2 - 0.5),
            asymmetry * np.sqrt(7.0) * (2.5 * u**3 - 1.5 * u),
        ],
        axis=1,
    ).astype(np.float32)
