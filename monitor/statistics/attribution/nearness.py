"""How near a pattern lies to what was simulated, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from monitor.statistics.attribution.whitening import unit_variance
from monitor.statistics.embeddings import Floats, Integers

#: a distance is that to this many nearest examples: the farthest of them
NEIGHBOURS = 5
# A number that is this many scales away says no more than that it is.
_FARTHEST = 8.0
# Of the mean variance of a piece, what is added to each direction's.
_SHRINKAGE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearness:
    """Distances to simulated windows of each kind, each piece of the pattern by itself.

    A new kind of shift may look ordinary in all pieces but one, and a distance in all numbers
    at once drowns that one in the others' scatter. In a piece, numbers become coordinates in
    which the kind's windows have unit variance in every direction (Mahalanobis 1936), and the
    distance is that to the kind's nearest windows (Loftsgaarden and Quesenberry 1965), since
    a kind has many faces. What is near is read off windows of other images than the examples.
    """

    #: [F] each: what a number is without a shift of any kind, and how it scatters
    middles: Floats
    scales: Floats
    #: [F] piece that a number is of, 0 .. P-1; -1 if it is not compared
    pieces: Integers
    #: [E, F] standardised numbers of simulated windows, and the kind of each, 0 .. K-1
    examples: Floats
    kinds: Integers
    #: [K, P, Q] distances of held-out windows of each kind to its examples, rising
    held_out: Floats
    _compared: tuple[tuple[_Compared, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.examples) != len(self.kinds):
            raise ValueError("every example must have a kind")
        compared = tuple(
            tuple(
                _Compared.of(self.examples[np.ix_(self.kinds == kind, self.pieces == piece)])
                for piece in range(self.pieces.max() + 1)
            )
            for kind in range(self.kinds.max() + 1)
        )
        object.__setattr__(self, "_compared", compared)

    def standardised(self, values: Floats) -> Floats:
        """Return numbers [n, F] in their scales."""
        standard = (values - self.middles) / self.scales
        return np.asarray(np.clip(standard, -_FARTHEST, _FARTHEST))

    def distances(self, values: Floats, kind: int) -> Floats:
        """Return the distances of patterns [n, F] to a kind, by piece, [n, P]."""
        standard = self.standardised(values)
        return np.stack(
            [
                one.distances(standard[:, self.pieces == piece])
                for piece, one in enumerate(self._compared[kind])
            ],
            axis=1,
        )

    def shares_farther(self, values: Floats, kinds: Integers) -> Floats:
        """Return the share of a kind's windows that lie farther out, by piece, [n, P].

        Never 0: of Q windows known, at least 1 / (1 + Q).

        Parameters
        ----------
        values : [n, F]
        kinds : [n] the kind that each pattern is compared with
        """
        known = self.held_out.shape[-1]
        farther = np.empty((len(values), self.held_out.shape[1]))
        for kind in np.unique(kinds).tolist():
            own = kinds == kind
            distances = self.distances(values[own], kind)
            farther[own] = np.stack(
                [
                    known - np.searchsorted(held_out, column)
                    for held_out, column in zip(self.held_out[kind], distances.T, strict=True)
                ],
                axis=1,
            )
        return np.asarray((1 + farther) / (1 + known))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Compared:
    """One kind's examples in one piece, in coordinates of unit variance."""

    coordinates: Floats
    examples: Floats

    @classmethod
    def of(cls, examples: Floats) -> _Compared:
        coordinates = unit_variance(examples, shrinkage=_SHRINKAGE)
        return cls(coordinates=coordinates, examples=examples @ coordinates)

    def distances(self, values: Floats) -> Floats:
        """Return the distances of standardised numbers [n, f], [n]."""
        own = values @ self.coordinates
        squares = (
            np.square(own).sum(axis=1)[:, None]
            + np.square(self.examples).sum(axis=1)
            - 2.0 * own @ self.examples.T
        )
        nearest = min(NEIGHBOURS, squares.shape[1]) - 1
        return np.sqrt(np.maximum(np.partition(squares, nearest, axis=1)[:, nearest], 0.0))
