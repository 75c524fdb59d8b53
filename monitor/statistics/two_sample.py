"""The two-sample statistic that every member shares: an unbiased squared shift of means.

For features f with mean m in the reference and sums over pairs of *different* patients,

    U = |mean of window - m|^2,   T = U / (1/n + 1/N),

unbiased for the squared shift, with n and N the effective numbers of scans (Gretton et al.
2012, eq. 3, for a kernel <f, f'>; Székely & Rizzo 2013 for its normalisation). Under equal
distributions T has mean zero and, from a few dozen patients on, one law for all n and N.
A peaked member's features are indicators, and T is the largest growth of a share, in
standard deviations of its indicator, over the root of 1/n + 1/N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.members.member import Member
from monitor.statistics.patients import Patients


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each member's features stand in a row of all features."""

    #: [G + 1] offsets
    edges: Integers
    #: [G] members whose largest coordinate is tested, not their length
    peaked: Flags

    @classmethod
    def of(cls, members: Sequence[Member]) -> Layout:
        """Lay the members' features side by side."""
        return cls(
            edges=np.cumsum([0, *(member.size for member in members)], dtype=np.int64),
            peaked=np.array([member.peaked for member in members]),
        )

    @property
    def members(self) -> int:
        return len(self.peaked)

    def part(self, member: int) -> slice:
        """Return the columns of a member."""
        return slice(int(self.edges[member]), int(self.edges[member + 1]))

    def added(self, values: Floats) -> Floats:
        """Return sums by member, [..., G], of values by feature [..., D]."""
        return np.asarray(np.add.reduceat(values, self.edges[:-1], axis=-1))

    def squared(self, values: Singles | Floats) -> Floats:
        """Return squared lengths by member, [..., G], of features [..., D]."""
        squares: Floats = np.square(values, dtype=np.float64)
        return np.asarray(np.add.reduceat(squares, self.edges[:-1], axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """How alike the scans of one patient are."""

    #: [G] intraclass correlation of each member's features, 0 .. 1
    correlations: Floats

    @property
    def pooled(self) -> float:
        """The correlation that sets the weights: one for all members."""
        return float(self.correlations.mean())

    @classmethod
    def none(cls, members: int) -> Dependence:
        """Return the dependence of scans that are patients of their own."""
        return cls(correlations=np.zeros(members))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSums:
    """Weighted features summed by patient."""

    #: [U, D] sum of the weighted features of each patient's scans
    sums: Singles
    #: [U] sum of the weights of each patient's scans
    masses: Floats
    #: [U, G] variance of each patient's sum, in variances of one scan
    spreads: Floats

    @classmethod
    def of(cls, features: Singles, patients: Patients, dependence: Dependence) -> PatientSums:
        """Sum the features [n, D] of scans by patient."""
        weights = patients.weights(dependence.pooled)
        masses = weights * patients.scans
        sums = patients.sums(features)
        growth = 1.0 + (patients.scans[:, None] - 1.0) * dependence.correlations
        return cls(
            # Scans that are patients of their own weigh one, and are not copied.
            sums=sums
            if patients.count == len(patients.codes)
            else sums * weights[:, None].astype(np.float32),
            masses=masses,
            spreads=(masses**2 / patients.scans)[:, None] * growth,
        )

    @property
    def mean(self) -> Floats:
        """Weighted mean of the features, [D]."""
        total: Floats = self.sums.sum(axis=0, dtype=np.float64)
        mean: Floats = total / self.masses.sum()
        return mean

    @property
    def inverse_sizes(self) -> Floats:
        """1 / effective number of scans, by member, [G]."""
        total: Floats = self.spreads.sum(axis=0)
        inverse: Floats = total / self.masses.sum() ** 2
        return inverse

    def about(self, centre: Singles | Floats) -> PatientSums:
        """Return the sums of features about a centre [D]."""
        masses, middle = self.masses.astype(np.float32), centre.astype(np.float32)
        shifted = masses[:, None] * middle
        # In its place: there are megabytes of them.
        np.subtract(self.sums, shifted, out=shifted)
        return PatientSums(sums=shifted, masses=self.masses, spreads=self.spreads)

    def squared_shifts(self, layout: Layout) -> Floats:
        """Return |mean|^2 over pairs of different patients, by member, [G]."""
        total = self.sums.sum(axis=0, dtype=np.float64)
        pairs = self.masses.sum() ** 2 - np.square(self.masses).sum()
        own = np.einsum("ij,ij->j", self.sums, self.sums).astype(np.float64)
        shifts: Floats = (layout.squared(total) - layout.added(own)) / pairs
        return shifts


def traces(sums: PatientSums, layout: Layout) -> Floats:
    """Return the variance of one scan's features, summed over them, by member, [G].

    Of patient sums S with masses A and variances e about their own mean, the expected
    sum of squares is the scan's variance times sum(e) - 2 sum(A e)/sum(A)
    + sum(A^2) sum(e)/sum(A)^2.
    """
    squares = layout.squared(sums.about(sums.mean).sums).sum(axis=0)
    share = sums.masses / sums.masses.sum()
    expected = (sums.spreads * (1.0 - 2.0 * share + np.square(share).sum())[:, None]).sum(
        axis=0
    )
    variances: Floats = squares / expected
    return variances


def intraclass_correlations(features: Singles, patients: Patients, layout: Layout) -> Floats:
    """Return the correlation of features of two scans of one patient, by member, [G].

    The mean product over pairs of scans of one patient, over the mean square (Fisher's
    pairwise estimator), at least 0.
    """
    pairs = float((patients.scans * (patients.scans - 1)).sum())
    if pairs == 0:
        return np.zeros(len(layout.edges) - 1)
    centred = features - features.mean(axis=0)
    own = layout.squared(centred).sum(axis=0)
    within = layout.squared(patients.sums(centred)).sum(axis=0) - own
    correlations: Floats = (within / pairs) / np.maximum(own / len(features), 1e-300)
    return np.clip(correlations, 0.0, 1.0)


def growths(
    shares: Floats, inverse_size: Floats | float, others: Floats, other_size: Floats | float
) -> Floats:
    """Return by how much shares grew, [..., k], from `others` to `shares`, [..., k] each.

    In standard deviations of the share's indicator, and compared on the scale of the power
    2/3, on which a Poisson count is closest to symmetric (Anscombe 1948, *Biometrika*
    35:246-254): a window is smaller than the reference, so that a difference of plain
    shares would be skewed, the more the rarer the cell.

    Parameters
    ----------
    inverse_size, other_size : 1 / effective number of scans, [...]
    """
    own, other = np.asarray(inverse_size)[..., None], np.asarray(other_size)[..., None]
    # A sixth of a scan more takes away the bias of the power.
    grown, before = shares.clip(0.0, 1.0) + own / 6.0, others.clip(0.0, 1.0) + other / 6.0
    pooled = (grown * other + before * own) / (own + other)
    spread = pooled ** (1.0 / 6.0) * np.sqrt(np.maximum(1.0 - pooled, other))
    growth: Floats = 1.5 * (grown ** (2.0 / 3.0) - before ** (2.0 / 3.0)) / spread
    return growth
