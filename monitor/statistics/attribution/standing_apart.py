"""Scans that stand apart from the others of their window, whatever moved them all.

Where a change of the image chain moves every scan, the scans of other patients among them lie
no farther out than the rest. So each scan is held against the middle of its own window, in
the reference's directions, and its distance against the window's median distance: a change
that moves, stretches or shrinks all scans alike is taken out, and those that stay far are of
another kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from monitor.statistics.attribution.far_part import far_part
from monitor.statistics.attribution.whitening import unit_variance
from monitor.statistics.embeddings import Floats

# Of the mean variance, what is added to each direction's.
_SHRINKAGE = 0.05
# The median, and where 97.5 % of the reference's scans lie nearer.
_HIGH = 0.975
_LEAST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnMiddle:
    """How far a reference's scans lie from their own middle, in one view."""

    #: [p, p] maps values to directions of unit variance
    whitening: Floats
    #: logarithm of the 97.5 % over the median squared distance
    reach: float

    @classmethod
    def fit(cls, values: Floats) -> OwnMiddle:
        """Learn directions and distances of a reference's scans [N, p]."""
        whitening = unit_variance(values, shrinkage=_SHRINKAGE)
        logs = _log_distances(values, whitening)
        reach = float(np.quantile(logs, _HIGH) - np.median(logs))
        return cls(whitening=whitening, reach=max(reach, _LEAST))

    def distances(self, values: Floats) -> Floats:
        """Return how far scans [n, p] lie from their own middle, [n].

        0 at the window's median, and 1 where 97.5 % of the reference's lie nearer to theirs.
        """
        logs = _log_distances(values, self.whitening)
        return np.asarray((logs - np.median(logs)) / self.reach)


def apart_numbers(
    middles: Mapping[str, OwnMiddle], values: Mapping[str, Floats], *, names: tuple[str, ...]
) -> Iterator[tuple[str, float]]:
    """Yield the pattern's numbers that say how many scans stand apart in each view.

    Parameters
    ----------
    middles : of the views that the reference has
    values : [n, p] of those that the window has
    names : of all views; one that either lacks yields zeros
    """
    for name in names:
        own = middles.get(name)
        seen = values.get(name)
        part = far_part(np.zeros(1) if own is None or seen is None else own.distances(seen))
        yield f"{name}: 90 %", float(part.quantiles[2])
        yield f"{name}: 97 %", float(part.quantiles[3])
        yield f"{name}: share far", part.far
        yield f"{name}: share very far", part.very_far
        yield f"{name}: how far", float(np.log1p(part.distance))
        yield f"{name}: gap", part.gap
        yield f"{name}: farther group", part.group


def _log_distances(values: Floats, whitening: Floats) -> Floats:
    white = (values - np.median(values, axis=0)) @ whitening
    return np.asarray(np.log(np.square(white).sum(axis=1) + _LEAST))
