"""How many scans lie farther out than the reference's, and how far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats

#: quantiles of a distance that are compared; the reference's own lie where a normal law's do
QUANTILES = (0.1, 0.5, 0.9, 0.97)
#: of the reference's scans, one in a hundred lies farther than this, in the distances' unit
_FAR = 1.19
#: and one in a thousand than this
_VERY_FAR = 1.58
# Variance of distances that are all the same.
_ROUNDING = 1e-12
#: a distance is cut off here; nothing is told apart beyond
_FARTHEST = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FarPart:
    """The distribution of one distance over a window."""

    #: [4] its quantiles
    quantiles: Floats
    #: share of scans that lie far, and very far
    far: float
    very_far: float
    #: mean distance of the far scans; 0 if there are none
    distance: float
    #: how clearly near and far scans part: variance between two groups over all, 0 .. 1
    gap: float
    #: share of scans in the farther group of the two
    group: float


def far_part(distances: Floats) -> FarPart:
    """Describe distances [n], 0 at the reference's median and 1 at its 97.5 %."""
    cut = np.clip(distances, -_FARTHEST, _FARTHEST)
    beyond = cut[cut > _FAR]
    gap, group = _parted(cut)
    return FarPart(
        quantiles=np.quantile(cut, QUANTILES),
        far=float(np.mean(cut > _FAR)),
        very_far=float(np.mean(cut > _VERY_FAR)),
        distance=float(beyond.mean()) if len(beyond) else 0.0,
        gap=gap,
        group=group,
    )


def _parted(values: Floats) -> tuple[float, float]:
    """Return the largest share of variance between two groups, and the upper one's size.

    Otsu (1979), IEEE Trans. Syst. Man Cybern. 9:62-66, on the values themselves.
    """
    ordered = np.sort(values)
    n = len(ordered)
    total = float(ordered.var())
    if n < 2 or total <= _ROUNDING:
        return 0.0, 0.0
    below = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    lower, upper = sums / below, (ordered.sum() - sums) / (n - below)
    between = below * (n - below) / n**2 * np.square(upper - lower)
    best = int(between.argmax())
    return float(between[best] / total), float((n - below[best]) / n)
