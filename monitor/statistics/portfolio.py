"""The portfolio: several detectors, cross-fitted, calibrated together, checked in O(n d).

A window is seen through features fitted on the whole reference; the null is drawn from
windows inside a fold, seen through features fitted without it. docs/decisions/
0002-drift-portfolio.md argues why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.design import MEAN_SHIFT, Design
from monitor.statistics.effect import Shift, shift_length, smallest_shift
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.log_mahalanobis import LogMahalanobis, log_distances
from monitor.statistics.member import Member
from monitor.statistics.null import NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums
from monitor.statistics.verdicts import Detection, Verdict
from monitor.statistics.whitening import Coordinates, Eigenbasis

_ALPHA = 0.05
_POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A window beside the reference, before any p-value."""

    #: patient sums about the reference's mean features
    sums: PatientSums
    #: [G] unbiased squared shifts
    squared_shifts: Floats
    #: [G] 1/n + 1/N
    inverse_sizes: Floats

    @property
    def statistics(self) -> Floats:
        """T by member, [G]."""
        return self.squared_shifts / self.inverse_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What a check needs to know of a reference."""

    basis: Eigenbasis
    design: Design
    #: [3, m] log-Mahalanobis scores of reference scans, patient left out, rising
    scores: Floats
    dependence: Dependence
    #: [D] mean features of the reference
    centre: Singles
    #: [G] variance of one scan's features
    traces: Floats
    #: [G] 1 / effective number of scans of the reference
    inverse_sizes: Floats
    #: patients of the reference
    patients: int
    null: NullTable
    #: [B, 4, 4, G] forms of independent means, for what windows in a row share
    forms: Singles

    @property
    def members(self) -> tuple[Member, ...]:
        return self.design.members(self.basis.variances, self.scores)

    @property
    def largest_window(self) -> int:
        """Patients in the largest window that is compared whole."""
        return min(self.patients // 2, 1000)

    def compare(self, window: Singles, patients: Patients) -> Comparison:
        """Compare a window [n, d] with the reference."""
        members = self.members
        layout = Layout.of(members)
        features = all_features(members, self.basis.coordinates(window))
        sums = PatientSums.of(features, patients, self.dependence).about(self.centre)
        # The reference's mean carries an error of its own, of this squared length.
        error = self.traces * self.inverse_sizes
        return Comparison(
            sums=sums,
            squared_shifts=sums.squared_shifts(layout) - error,
            inverse_sizes=sums.inverse_sizes + self.inverse_sizes,
        )

    def check(
        self, window: Singles, patients: Patients, *, subsampled: bool, seed: int
    ) -> Verdict:
        """Judge a window of at least five patients and no more than `largest_window`."""
        members = self.members
        weights = np.array([member.weight for member in members])
        comparison = self.compare(window, patients)
        p_value, log_p = self._judge(comparison, weights, patients.count)
        singles = np.maximum(np.exp(log_p), self.null.least_p)
        statistics = comparison.statistics
        lengths = np.sqrt(np.maximum(comparison.squared_shifts, 0.0))
        return Verdict(
            p_value=p_value,
            detectors={
                member.name: Detection(
                    p_value=float(singles[g]),
                    statistic=float(statistics[g]),
                    effect=float(lengths[g] * member.scale),
                )
                for g, member in enumerate(members)
                if member.weight > 0
            },
            leading=members[_leading(log_p, weights)].name,
            effect=self._shift(comparison, members, patients.count),
            smallest_effect=self._smallest(comparison, members, weights, patients.count),
            alpha=_ALPHA,
            scans=len(window),
            patients=patients.count,
            subsampled=subsampled,
            seed=seed,
        )

    def contributions(self, window: Singles, patients: Patients) -> Floats:
        """Return each scan's part in the squared shift that the leading detector sees, [n].

        The parts add up to the unbiased squared distance between the window and the
        reference's mean feature; a scan that speaks against the shift counts negative.
        """
        members = self.members
        weights = np.array([member.weight for member in members])
        comparison = self.compare(window, patients)
        _, log_p = self._judge(comparison, weights, patients.count)
        leading = _leading(log_p, weights)
        part = Layout.of(members).part(leading)
        features = members[leading].features(self.basis.coordinates(window))
        sums, masses = comparison.sums.sums[:, part], comparison.sums.masses
        others = sums.sum(axis=0, dtype=np.float64) - sums
        by_scan = patients.weights(self.dependence.pooled)[patients.codes]
        products = np.einsum(
            "ij,ij->i", features - self.centre[part], others[patients.codes], dtype=np.float64
        )
        pairs = masses.sum() ** 2 - np.square(masses).sum()
        parts: Floats = by_scan * products / pairs
        return parts

    def outlier_scores(self, window: Singles) -> Floats:
        """Return each scan's log-Mahalanobis rank among held-out reference scans, [n]."""
        finest = next(m for m in self.members if isinstance(m, LogMahalanobis))
        principal = self.basis.coordinates(window).principal
        return finest.ranks(log_distances(principal, finest.precisions))

    @property
    def _caution(self) -> float:
        """What statistics are divided by before they are referred to the null.

        The null's scale is estimated from the reference's patients. Its relative standard
        error, of the order of 1 over the root of their number, is given away.
        """
        return 1.0 + 1.0 / float(np.sqrt(self.patients))

    def _judge(
        self, comparison: Comparison, weights: Floats, patients: int
    ) -> tuple[float, Floats]:
        """Return the portfolio's p-value and the members' log p-values [G]."""
        return self.null.p_values(
            comparison.statistics / self._caution, patients=patients, weights=weights
        )

    def _shift(self, comparison: Comparison, members: Sequence[Member], patients: int) -> Shift:
        g = [member.name for member in members].index(MEAN_SHIFT)
        part = Layout.of(members).part(g)
        sums, masses = comparison.sums.sums[:, part], comparison.sums.masses
        difference = sums.sum(axis=0, dtype=np.float64) / masses.sum()
        # The window's own spread along the difference stands for the reference's, too.
        along = (sums - masses[:, None] * difference) @ difference
        window_variance = float(np.square(along).sum() / masses.sum() ** 2)
        share = comparison.inverse_sizes[g] / comparison.sums.inverse_sizes[g]
        null_deviation = sum(
            weight * float(self.null.deviations[i, g])
            for i, weight in self.null.neighbours(patients)
        )
        return shift_length(
            float(comparison.squared_shifts[g]),
            linear_variance=window_variance * float(share),
            null_variance=float((null_deviation * comparison.inverse_sizes[g]) ** 2),
        )

    def _smallest(
        self,
        comparison: Comparison,
        members: Sequence[Member],
        weights: Floats,
        patients: int,
    ) -> float:
        # The portfolio rejects for certain when this member alone brings the evidence.
        g = self.design.directions.index(self.design.described)
        index = self.null.neighbours(patients)[0][0]
        draws = self.null.evidence[index]
        needed = float(draws[int(np.ceil((1.0 - _ALPHA) * len(draws))) - 1])
        tails = self.null.tails(index)
        return smallest_shift(
            alpha=float(weights[g] / weights.sum() * np.exp(-needed)),
            power=_POWER,
            inverse_size=float(comparison.inverse_sizes[g]),
            directions=members[g].size,
            mean=float(tails.means[g]),
            deviation=float(tails.deviations[g]) * self._caution,
            skewness=float(tails.skewnesses[g]),
        )


def _leading(log_p: Floats, weights: Floats) -> int:
    """Return the member with a say whose p-value is smallest, of equals the first."""
    return int(np.argmin(np.where(weights > 0, log_p, np.inf)))


def all_features(members: Sequence[Member], at: Coordinates) -> Singles:
    """Return the members' features side by side, [n, D]."""
    return np.concatenate([member.features(at) for member in members], axis=1)
