"""Leading principal directions of some of a reference's patients.

Maps that bend to the scans they were fitted on (landmarks, squared coordinates) are
fitted on the *shaping* patients, and see scans along these patients' own directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from monitor.statistics.embeddings import Flags, Singles
from monitor.statistics.whitening import VARIANCE_FLOOR, Moments, signed

# What PCA-based drift detectors keep by default; the rest is what they reconstruct badly.
_INSIDE_SHARE = 0.65


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """Leading principal directions of the shaping patients."""

    #: [d] in embedding units
    mean: Singles
    #: [d, q] columns are directions, by falling variance
    directions: Singles
    #: [q] standard deviation along each, in units of length
    deviations: Singles
    #: leading directions that hold 65 % of the variance, 1 .. q
    inside: int

    @classmethod
    def of(cls, moments: Moments, groups: Flags, *, size: int) -> Subspace:
        """Find the first `size` directions of the scans of some groups ([K])."""
        covariance = moments.covariance(groups)
        dimension = len(covariance)
        variances, directions = eigh(
            covariance, subset_by_index=(dimension - size, dimension - 1)
        )
        variances, directions = variances[::-1], signed(directions)[:, ::-1]
        share = np.cumsum(variances) / np.trace(covariance)
        floor = float(variances[0]) * VARIANCE_FLOOR
        return cls(
            mean=moments.embedding(moments.mean(groups)),
            directions=np.ascontiguousarray(directions, dtype=np.float32),
            deviations=np.sqrt(np.maximum(variances, floor)).astype(np.float32),
            # At least one direction stays outside, so that the rest is never empty.
            inside=min(int(np.searchsorted(share, _INSIDE_SHARE)) + 1, size, dimension - 1),
        )
