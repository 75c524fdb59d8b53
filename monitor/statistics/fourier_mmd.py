"""Maximum mean discrepancy by random Fourier features.

The squared distance of mean features estimates the MMD of the Gaussian kernel
exp(-|x - y|^2 / 2 sigma^2): Rahimi & Recht (2007), *Random features for large-scale kernel
machines*; Gretton et al. (2012), JMLR 13:723-773. A check then costs as much for a million
reference scans as for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from monitor.statistics.embeddings import Singles
from monitor.statistics.patients import Patients
from monitor.statistics.whitening import Coordinates


@dataclass(frozen=True, slots=True, kw_only=True)
class FourierMMD:
    """Cosines and sines of random projections."""

    name: str
    #: [d, m] standard normal draws
    frequencies: Singles
    #: sigma of the kernel, in units of length of the reference
    bandwidth: float
    weight: float

    @property
    def size(self) -> int:
        return 2 * int(self.frequencies.shape[1])

    @property
    def scale(self) -> float:
        """Return 1: the effect is the MMD itself."""
        return 1.0

    def features(self, at: Coordinates) -> Singles:
        """Return [n, 2m]; each row has length one."""
        phases = (at.centred @ self.frequencies) / np.float32(self.bandwidth)
        half = phases.shape[1]
        features = np.empty((len(phases), 2 * half), dtype=np.float32)
        np.cos(phases, out=features[:, :half])
        np.sin(phases, out=features[:, half:])
        features *= np.float32(1.0 / np.sqrt(half))
        return features

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:  # noqa: ARG002
        """Return the features as they are: the frequencies are drawn, not fitted."""
        return self.features(at)


def median_distance(centred: Singles) -> float:
    """Return the median distance between different scans [n, d], the usual bandwidth."""
    median = float(np.median(pdist(centred.astype(np.float64))))
    # More than half of the pairs are duplicates: any positive bandwidth is as good.
    return median if median > 0 else 1.0
