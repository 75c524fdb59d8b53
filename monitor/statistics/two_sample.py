"""The two-sample statistic that every member shares: an unbiased squared shift of means.

For features f with mean m in the reference and sums over pairs of *different* patients,

    U = |mean of window - m|^2,   T = U / (1/n + 1/N),

unbiased for the squared shift, with n and N the effective numbers of scans (Gretton et al.
2012, eq. 3, for a kernel <f, f'>; Székely & Rizzo 2013 for its normalisation). Under equal
distributions T has mean zero and, from a few dozen patients on, one law for all n and N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.member import Member
from monitor.statistics.patients import Patients


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each member's features stand in a row of all features."""

    #: [G + 1] offsets
    edges: Integers

    @classmethod
    def of(cls, members: Sequence[Member]) -> Layout:
        """Lay the members' features side by side."""
        return cls(edges=np.cumsum([0, *(member.size for member in members)], dtype=np.int64))

    def part(self, member: int) -> slice:
        """Return the columns of a member."""
        return slice(int(self.edges[member]), int(self.edges[member + 1]))

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
        growth = 1.0 + (patients.scans[:, None] - 1.0) * dependence.correlations
        return cls(
            sums=patients.sums(features) * weights[:, None].astype(np.float32),
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
        shifted = self.sums - (self.masses[:, None] * centre).astype(np.float32)
        return PatientSums(sums=shifted, masses=self.masses, spreads=self.spreads)

    def squared_shifts(self, layout: Layout) -> Floats:
        """Return |mean|^2 over pairs of different patients, by member, [G]."""
        total = self.sums.sum(axis=0, dtype=np.float64)
        pairs = self.masses.sum() ** 2 - np.square(self.masses).sum()
        own = layout.squared(self.sums).sum(axis=0)
        shifts: Floats = (layout.squared(total) - own) / pairs
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
