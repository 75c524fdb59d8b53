"""Distribution of the distance from the reference's centre: location, spread, asymmetry.

The score of a scan is log((x - mu)' (S + r)^-1 (x - mu)). Scores are turned into ranks
among the reference's own, where each reference scan is scored as if its patient had been
left out of mu and S; the distributions of ranks are then compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.members.ranks import RankedMember
from monitor.statistics.patients import Patients

# A scan at the very centre has no logarithm.
_LEAST_DISTANCE = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMahalanobis(RankedMember):
    """Rank of the log-Mahalanobis score.

    `scores` are those of reference scans with their patient left out.
    """

    #: [d] 1 / (sample variance + ridge) along each principal direction
    precisions: Floats

    def score(self, at: Coordinates) -> Floats:
        """Return [n]."""
        return log_distances(at.principal, self.precisions)

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:
        """Return [n, 3] of reference scans, each with its patient left out."""
        scores = left_out_log_distances(
            at.principal, self.precisions, patients=patients, scans=scans
        )
        return self.ranked(scores)


def log_distances(principal: Singles, precisions: Floats) -> Floats:
    """Return log squared Mahalanobis distances of scans outside the fit, [n]."""
    squared = (principal * principal) @ precisions.astype(np.float32)
    return np.log(np.maximum(squared.astype(np.float64), _LEAST_DISTANCE))


def left_out_log_distances(
    principal: Singles, precisions: Floats, *, patients: Patients, scans: int
) -> Floats:
    """Return log squared distances of fitted scans, each with its patient left out, [n].

    With B the m scans of a patient about the mean of all n, G = B (S + r)^-1 B' and
    P = I + 11'/(n - m), the mean and covariance without them give (Woodbury) for scan i,
    w = e_i + 1/(n - m):

        (n - m)/n  w' (I - G P/n)^-1 G w,

    exact for a ridge of r n/(n - m) in place of r.

    Parameters
    ----------
    principal : [n', d] all scans of some patients
    precisions : [d] 1 / (sample variance + r)
    patients : whose scans they are
    scans : n, the number of scans that were fitted
    """
    scaled = principal * np.sqrt(precisions).astype(np.float32)
    squared = np.empty(len(principal))
    order = np.argsort(patients.codes, kind="stable")
    starts = np.concatenate(([0], np.cumsum(patients.scans)[:-1]))
    for m in np.unique(patients.scans):
        rows = order[starts[patients.scans == m][:, None] + np.arange(m)]
        if m == 1:
            own = np.einsum("ij,ij->i", scaled[rows[:, 0]], scaled[rows[:, 0]])
            leverage = np.minimum(own.astype(np.float64) / (scans - 1), 0.99)
            squared[rows[:, 0]] = own * (scans / (scans - 1)) / (1.0 - leverage)
            continue
        # Leaving out one patient must leave others.
        rest = max(scans - int(m), 1)
        block = scaled[rows]
        gram = (block @ block.transpose(0, 2, 1)).astype(np.float64)
        identity = np.eye(m)
        solved = np.linalg.solve(identity - gram @ (identity + 1.0 / rest) / scans, gram)
        vectors = identity + 1.0 / rest
        squared[rows] = np.einsum("ji,cjk,ki->ci", vectors, solved, vectors) * rest / scans
    return np.log(np.maximum(squared, _LEAST_DISTANCE))
