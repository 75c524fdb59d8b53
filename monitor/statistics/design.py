"""Which members a portfolio has, and what they share between folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates, Frame
from monitor.statistics.distances import median_distance
from monitor.statistics.embeddings import Flags, Floats, Singles
from monitor.statistics.members.fourier_mmd import FourierMMD, Space
from monitor.statistics.members.log_mahalanobis import LogMahalanobis, left_out_log_distances
from monitor.statistics.members.member import Member
from monitor.statistics.members.novelty import Novelty
from monitor.statistics.members.occupancy import Cells, Occupancy, count_cells
from monitor.statistics.members.residual import Residual
from monitor.statistics.members.variances import Variances
from monitor.statistics.members.whitened_mean import WhitenedMean
from monitor.statistics.patients import Patients
from monitor.statistics.whitening import Eigenbasis

_DIRECTIONS = (16, 64, 256)
_FREQUENCIES = 128
# The usual bandwidth, and half of it.
_BANDWIDTHS = (("narrow", True), ("wide", False))
_BANDWIDTH_SCANS = 1000
_SCALES = ("fine", "middle", "coarse")
#: share of patients on whom the split members' maps are fitted
SHAPING_SHARE = 0.4
_LARGEST_SUBSPACE = 64
_MOST_LANDMARKS = 512
_CELL_DIRECTIONS = 32
_SHAPING_PATIENTS_PER_CELL = 25
# A member's share of the level. Four carry the portfolio, each the best that was found for
# one kind of shift; the others overlap with them and pay off where the four are blind.
_WEIGHTS = {
    "whitened-mean-16": 0.2,
    "whitened-mean-64": 0.6,
    "whitened-mean-256": 0.2,
    "whitened-mean-all": 3.5,
    "fourier-mmd-narrow": 0.15,
    "fourier-mmd-wide": 0.15,
    "fourier-mmd-leading-narrow": 0.15,
    "fourier-mmd-leading-wide": 0.15,
    "fourier-mmd-whitened": 0.15,
    "log-mahalanobis-fine": 4.0,
    "log-mahalanobis-middle": 0.5,
    "log-mahalanobis-coarse": 0.2,
    "residual": 0.2,
    "novelty": 0.15,
    "variances": 0.15,
    "occupancy": 0.2,
    "occupancy-peak": 5.5,
}
#: the member that describes how far the mean moved, and has no say
MEAN_SHIFT = "mean-shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What was fitted on a set of patients: all of the reference's, or all but a fold's."""

    frame: Frame
    #: [3, m] log-Mahalanobis scores of fitted scans, their patient left out, rising
    scores: Floats
    #: [m] residual scores of scans of patients that did not shape the subspace, rising
    residuals: Floats
    #: [k, p] scans of shaping patients along the leading directions
    landmarks: Singles
    #: [m] novelty scores of scans of the other patients, rising
    novelties: Floats
    cells: Cells


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
    #: typical distance of two scans, in units of length
    distance: float
    #: [p, m], p the leading directions in which a kernel measures
    leading_frequencies: Singles
    #: typical distance of two scans along these directions, in standard deviations
    leading_distance: float
    #: leading directions along which landmarks and variances are found
    leading: int
    #: number of cells of occupancy
    cells: int

    @classmethod
    def of(
        cls,
        basis: Eigenbasis,
        spectrum: Floats,
        sample: Coordinates,
        shaping: Flags,
        *,
        patients: int,
        rng: np.random.Generator,
    ) -> Design:
        """Choose the members' sizes for a reference.

        Parameters
        ----------
        basis : of the whole reference
        spectrum : [d] held-out variances
        sample : some of the reference's scans, for bandwidths and the number of cells
        shaping : [n] whether a scan of the sample is a shaping patient's
        patients : in the reference
        """
        dimension = len(spectrum)
        most = min(dimension // 2, int(0.4 * patients))
        directions = (*(p for p in _DIRECTIONS if p <= most), dimension)
        some = rng.permutation(len(sample.centred))[:_BANDWIDTH_SCANS]
        frequencies = rng.standard_normal((dimension, _FREQUENCIES), dtype=np.float32)
        # What bends to its scans stays far smaller than their number.
        kernel = min(int(np.clip(patients // 40, 6, 48)), sample.leading.shape[1])
        leading = min(int(np.clip(patients // 20, 8, 64)), sample.leading.shape[1])
        return cls(
            spectrum=spectrum,
            directions=directions,
            described=max((p for p in directions if p <= 64), default=dimension),
            ridges=_ridges(basis.variances, spectrum, patients=patients),
            frequencies=frequencies,
            distance=median_distance(sample.centred[some]),
            leading_frequencies=rng.standard_normal((kernel, _FREQUENCIES), dtype=np.float32),
            leading_distance=median_distance(sample.leading[some, :kernel]),
            leading=leading,
            cells=count_cells(
                sample,
                shaping,
                _cell_precisions(spectrum, leading),
                most=int(SHAPING_SHARE * patients) // _SHAPING_PATIENTS_PER_CELL,
                rng=rng,
            ),
        )

    @property
    def cell_precisions(self) -> Singles:
        """1 / standard deviation along the directions in which cells are found, [p]."""
        return _cell_precisions(self.spectrum, self.leading)

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

    def members(self, fit: Fit) -> tuple[Member, ...]:
        """Return the members as fitted on some patients."""
        return (
            # First, so that `directions` and the whitened means have the same indices.
            *self._whitened_means(),
            *self._fourier_members(),
            *self._distances(fit),
            Variances(name="variances", directions=self.leading, weight=_WEIGHTS["variances"]),
            *(
                Occupancy(name=name, cells=fit.cells, weight=_WEIGHTS[name], peaked=peaked)
                for name, peaked in (("occupancy", False), ("occupancy-peak", True))
            ),
            WhitenedMean(
                name=MEAN_SHIFT,
                variances=self.spectrum[: self.described],
                weight=0.0,
                directional=False,
            ),
        )

    def _whitened_means(self) -> list[Member]:
        everything = len(self.spectrum)
        return [
            WhitenedMean(
                name=(name := f"whitened-mean-{'all' if p == everything else p}"),
                variances=self.spectrum[:p],
                weight=_WEIGHTS[name],
            )
            for p in self.directions
        ]

    def _fourier_members(self) -> list[Member]:
        plain: list[Member] = [
            FourierMMD(
                name=(name := f"{prefix}-{label}"),
                space=space,
                frequencies=frequencies,
                bandwidth=distance,
                weight=_WEIGHTS[name],
                doubled=doubled,
            )
            for prefix, space, frequencies, distance in (
                ("fourier-mmd", Space.RAW, self.frequencies, self.distance),
                (
                    "fourier-mmd-leading",
                    Space.LEADING,
                    self.leading_frequencies,
                    self.leading_distance,
                ),
            )
            for label, doubled in _BANDWIDTHS
        ]
        whitened = FourierMMD(
            name="fourier-mmd-whitened",
            space=Space.WHITENED,
            frequencies=self.frequencies,
            # Brought to one length, whitened scans lie about this far from each other.
            bandwidth=float(np.sqrt(2.0 * len(self.spectrum))),
            weight=_WEIGHTS["fourier-mmd-whitened"],
            precisions=(1.0 / np.sqrt(self.spectrum)).astype(np.float32),
            doubled=True,
        )
        return [*plain, whitened]

    def _distances(self, fit: Fit) -> list[Member]:
        variances = fit.frame.basis.variances
        mahalanobis: list[Member] = [
            LogMahalanobis(
                name=(name := f"log-mahalanobis-{label}"),
                precisions=1.0 / (variances + ridge),
                scores=row,
                weight=_WEIGHTS[name],
            )
            for label, ridge, row in zip(_SCALES, self.ridges, fit.scores, strict=True)
        ]
        return [
            *mahalanobis,
            Residual(name="residual", scores=fit.residuals, weight=_WEIGHTS["residual"]),
            Novelty(
                name="novelty",
                landmarks=fit.landmarks,
                scores=fit.novelties,
                weight=_WEIGHTS["novelty"],
            ),
        ]


def subspace_size(dimension: int, patients: int) -> int:
    """Return how many leading directions the shaping patients of a reference support."""
    return min(dimension, _LARGEST_SUBSPACE, int(patients * SHAPING_SHARE) // 2)


def landmark_count(scans: int) -> int:
    """Return how many of so many shaping scans become landmarks."""
    return min(scans, _MOST_LANDMARKS)


def _cell_precisions(spectrum: Floats, leading: int) -> Singles:
    count = min(leading, _CELL_DIRECTIONS)
    return (1.0 / np.sqrt(spectrum[:count])).astype(np.float32)


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
