"""Which members a portfolio has, and what they share between folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.fourier_mmd import FourierMMD, median_distance
from monitor.statistics.log_mahalanobis import LogMahalanobis, left_out_log_distances
from monitor.statistics.member import Member
from monitor.statistics.patients import Patients
from monitor.statistics.whitened_mean import WhitenedMean
from monitor.statistics.whitening import Eigenbasis

_DIRECTIONS = (16, 64, 256)
_FREQUENCIES = 256
_BANDWIDTHS = (("narrow", 0.5), ("wide", 1.0))
_BANDWIDTH_SCANS = 1000
# A member that sees every direction finds what the others miss, but pays for it in noise.
_WEIGHTS = {
    "whitened-mean-all": 3.0,
    "log-mahalanobis-fine": 3.0,
    "log-mahalanobis-middle": 1.5,
}
#: the member that describes how far the mean moved, and has no say
MEAN_SHIFT = "mean-shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Everything about the members that is not fitted on a fold."""

    #: [d] held-out variances along the principal directions, falling
    spectrum: Floats
    #: numbers of whitened directions, rising; the last is d
    directions: tuple[int, ...]
    #: number of directions in which the shift of the mean is described
    described: int
    #: ridges of the log-Mahalanobis scores, from fine to coarse
    ridges: tuple[float, float, float]
    #: [d, m]
    frequencies: Singles
    #: narrow and wide
    bandwidths: tuple[float, float]

    @classmethod
    def of(
        cls,
        basis: Eigenbasis,
        spectrum: Floats,
        sample: Singles,
        *,
        patients: int,
        rng: np.random.Generator,
    ) -> Design:
        """Choose the members' sizes for a reference.

        Parameters
        ----------
        basis : of the whole reference
        spectrum : [d] held-out variances
        sample : [n, d] centred scans, for the bandwidths
        patients : in the reference
        """
        dimension = len(spectrum)
        most = min(dimension // 2, int(0.4 * patients))
        directions = (*(p for p in _DIRECTIONS if p <= most), dimension)
        median = median_distance(sample[rng.permutation(len(sample))[:_BANDWIDTH_SCANS]])
        frequencies = rng.standard_normal((dimension, _FREQUENCIES), dtype=np.float32)
        return cls(
            spectrum=spectrum,
            directions=directions,
            described=max((p for p in directions if p <= 64), default=dimension),
            ridges=_ridges(basis.variances, spectrum, patients=patients),
            frequencies=frequencies,
            bandwidths=(_BANDWIDTHS[0][1] * median, _BANDWIDTHS[1][1] * median),
        )

    def left_out_scores(
        self, principal: Singles, variances: Floats, *, patients: Patients, scans: int
    ) -> Floats:
        """Return each ridge's scores of fitted scans with their patient left out, [3, n]."""
        return np.stack(
            [
                left_out_log_distances(
                    principal, 1.0 / (variances + ridge), patients=patients, scans=scans
                )
                for ridge in self.ridges
            ]
        )

    def members(self, variances: Floats, scores: Floats) -> tuple[Member, ...]:
        """Return the members for a fit with these sample variances [d] and scores [3, n].

        `scores` are those of `left_out_scores`, each row rising.
        """
        everything = len(self.spectrum)
        whitened: list[Member] = [
            WhitenedMean(
                name=(name := f"whitened-mean-{'all' if p == everything else p}"),
                variances=self.spectrum[:p],
                weight=_WEIGHTS.get(name, 1.0),
            )
            for p in self.directions
        ]
        fourier: list[Member] = [
            FourierMMD(
                name=f"fourier-mmd-{label}",
                frequencies=self.frequencies,
                bandwidth=bandwidth,
                weight=0.5,
            )
            for (label, _), bandwidth in zip(_BANDWIDTHS, self.bandwidths, strict=True)
        ]
        mahalanobis: list[Member] = [
            LogMahalanobis(
                name=(name := f"log-mahalanobis-{label}"),
                precisions=1.0 / (variances + ridge),
                scores=row,
                weight=_WEIGHTS.get(name, 1.0),
            )
            for label, ridge, row in zip(
                ("fine", "middle", "coarse"), self.ridges, scores, strict=True
            )
        ]
        described = WhitenedMean(
            name=MEAN_SHIFT,
            variances=self.spectrum[: self.described],
            weight=0.0,
            directional=False,
        )
        # In this order: `directions` and the whitened means have the same indices.
        return (*whitened, *fourier, *mahalanobis, described)


def _ridges(
    variances: Floats, spectrum: Floats, *, patients: int
) -> tuple[float, float, float]:
    """Return ridges that see all directions, about the first 64, and about the first 16."""
    dimension = len(spectrum)
    fine = 0.3 * float(spectrum[-1])
    # Leaving a patient out is stable only while the fit has far fewer degrees of freedom
    # than patients.
    while float((variances / (variances + fine)).sum()) > 0.4 * patients:
        fine *= 1.25
    middle = max(float(spectrum[min(63, dimension // 2)]), fine)
    coarse = max(float(spectrum[min(15, dimension // 4)]), middle)
    return fine, middle, coarse
