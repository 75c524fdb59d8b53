"""Which scans to read so that the embeddings are covered: for training, and never for a gate.

Greedy k-centre (Gonzalez 1985, *Theoretical Computer Science* 38:293-306; as a core set for
training in Sener and Savarese 2018, ICLR): each next one is that which lies farthest from all
that were taken, so that no scan stays farther from one than twice the best possible. What it
takes is no sample of anything: rare scans come first, and no estimate may rest on them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats
from registry.errors import BadInputError

#: Cost is that of the pool times that of what is taken.
LARGEST_POOL = 5_000


def covering(vectors: npt.NDArray[np.float32], count: int) -> list[int]:
    """Return the positions of `count` vectors that cover all of them, in the order of taking.

    Coordinates are standardised. The first is the one nearest to the mean.

    Parameters
    ----------
    vectors : float32, shape [n, d], n at most `LARGEST_POOL`
    count : at most n are returned

    Raises
    ------
    BadInputError
        If the pool is too large, or a vector is not finite.

    >>> covering(np.array([[0.0], [0.1], [5.0], [0.2]], dtype=np.float32), 2)
    [3, 2]
    """
    if vectors.ndim != 2 or len(vectors) > LARGEST_POOL or not np.isfinite(vectors).all():
        raise BadInputError(
            f"coverage takes finite vectors of shape [n, d] with n up to {LARGEST_POOL}, got "
            f"shape {list(vectors.shape)}: draw a smaller pool"
        )
    if count <= 0 or len(vectors) == 0:
        return []
    points: Floats = vectors.astype(np.float64)
    points -= points.mean(axis=0)
    scale = points.std(axis=0)
    points /= np.where(scale > 0.0, scale, 1.0)
    norms = np.einsum("ij,ij->i", points, points)
    taken = [int(np.argmin(norms))]
    nearest = _squared_distances(points, norms, taken[0])
    while len(taken) < min(count, len(points)):
        # What was taken lies at no distance, and equal ones must not be taken twice.
        nearest[taken[-1]] = -1.0
        following = int(np.argmax(nearest))
        taken.append(following)
        nearest = np.minimum(nearest, _squared_distances(points, norms, following))
    return taken


def _squared_distances(points: Floats, norms: Floats, centre: int) -> Floats:
    squared: Floats = norms + norms[centre] - 2.0 * (points @ points[centre])
    return np.maximum(squared, 0.0)
