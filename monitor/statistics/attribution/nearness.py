"""How unlike everything that was simulated a pattern is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearness:
    """Distances to the middles of the kinds that were simulated.

    Numbers are standardised, and turned into coordinates in which windows of one kind have
    unit variance in every direction (Mahalanobis 1936). What is near is read off windows of
    other images than those that the middles come from.
    """

    #: [F] each
    middles: Floats
    scales: Floats
    #: [F, r] coordinates of standardised numbers
    coordinates: Floats
    #: [K, r] middle of each kind
    kinds: Floats
    #: [K, Q] distances of held-out windows of each kind to their own middle, rising
    held_out: Floats

    def distances(self, values: Floats) -> Floats:
        """Return the distances of a pattern [F] to the kinds, [K]."""
        standard = np.clip((values - self.middles) / self.scales, -_FARTHEST, _FARTHEST)
        return np.asarray(np.linalg.norm(standard @ self.coordinates - self.kinds, axis=1))

    def shares_farther(self, values: Floats) -> Floats:
        """Return of each kind the share of its windows that lie farther out, [K].

        Never 0: of Q windows known, at least 1 / (1 + Q).
        """
        farther = (self.held_out >= self.distances(values)[:, None]).sum(axis=1)
        return np.asarray((1 + farther) / (1 + self.held_out.shape[1]))


# A number that is this many scales away says no more than that it is.
_FARTHEST = 8.0
