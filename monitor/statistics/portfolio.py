"""The portfolio: several detectors, cross-fitted, calibrated together, checked in O(n d).

A window is seen through features fitted on the whole reference; the null is drawn from
windows inside a fold, seen through features fitted without it. docs/decisions/
0002-drift-portfolio.md argues why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.design import MEAN_SHIFT, Design, Fit
from monitor.statistics.effect import Shift, shift_length, smallest_shift
from monitor.statistics.embeddings import Flags, Floats, Singles
from monitor.statistics.members.log_mahalanobis import LogMahalanobis, log_distances
from monitor.statistics.members.member import Member
from monitor.statistics.members.ranks import ranks
from monitor.statistics.null import NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums, growths
from monitor.statistics.verdicts import Detection, Verdict
from monitor.statistics.weeks import WeekEffects

_ALPHA = 0.05
_POWER = 0.8
# Patients' worth of relative variance: docs/decisions/0005 has the rates it was set by.
_CAUTION = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A window beside the reference, before any p-value."""

    members: tuple[Member, ...]
    layout: Layout
    #: [n, D] of the scans
    features: Singles
    #: patient sums about the reference's mean features
    sums: PatientSums
    #: [G] unbiased squared shifts of the mean feature
    squared_shifts: Floats
    #: of each peaked member, growths of its shares [k]
    growths: Mapping[int, Floats]
    #: [G] 1/n + 1/N
    inverse_sizes: Floats

    @property
    def statistics(self) -> Floats:
        """T by member, [G]."""
        statistics = self.squared_shifts / self.inverse_sizes
        for g, growth in self.growths.items():
            statistics[g] = growth.max() / np.sqrt(self.inverse_sizes[g])
        return statistics

    @property
    def lengths(self) -> Floats:
        """Length of the shift by member, [G]; 0 if its estimate is not positive."""
        lengths = np.sqrt(np.maximum(self.squared_shifts, 0.0))
        for g, growth in self.growths.items():
            lengths[g] = max(float(growth.max()), 0.0)
        return lengths

    @property
    def weights(self) -> Floats:
        """The members' say, [G]."""
        return np.array([member.weight for member in self.members])

    def weekly_statistics(
        self, effects: WeekEffects, traces: Floats, *, share: float
    ) -> Floats:
        """T by member beyond what ordinary weeks differ, [G].

        Parameters
        ----------
        traces : [G] variance of one scan's features
        share : sum of squares of the weeks' shares of the window: 1 for a window of one week
        """
        added = effects.variance(share)
        statistics = self.squared_shifts - effects.ratios * traces * added
        statistics /= (self.inverse_sizes + effects.ratios * added) * effects.inflations
        for g, growth in self.growths.items():
            variances = (
                self.inverse_sizes[g] + effects.feature_ratios[self.layout.part(g)] * added
            )
            statistics[g] = (growth / np.sqrt(variances)).max()
        return statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What a check needs to know of a reference."""

    design: Design
    #: on the whole reference
    fit: Fit
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
    #: what ordinary weeks differ by, where the reference spans enough of them
    weeks: WeekEffects | None

    @property
    def members(self) -> tuple[Member, ...]:
        return self.design.members(self.fit)

    @property
    def largest_window(self) -> int:
        """Patients in the largest window that is compared whole."""
        return min(self.patients // 2, 1000)

    def compare(self, window: Singles, patients: Patients) -> Comparison:
        """Compare a window [n, d] with the reference."""
        members = self.members
        layout = Layout.of(members)
        features = all_features(members, self.fit.frame.coordinates(window))
        sums = PatientSums.of(features, patients, self.dependence).about(self.centre)
        # The reference's mean carries an error of its own, of this squared length.
        squared = sums.squared_shifts(layout) - self.traces * self.inverse_sizes
        return Comparison(
            members=members,
            layout=layout,
            features=features,
            sums=sums,
            squared_shifts=squared,
            growths={
                g: self._growths(sums, g, layout)
                for g in np.flatnonzero(layout.peaked).tolist()
            },
            inverse_sizes=sums.inverse_sizes + self.inverse_sizes,
        )

    def _growths(self, sums: PatientSums, g: int, layout: Layout) -> Floats:
        reference = self.centre[layout.part(g)].astype(np.float64)
        return growths(
            reference + sums.mean[layout.part(g)],
            sums.inverse_sizes[g],
            reference,
            self.inverse_sizes[g],
        )

    def check(
        self,
        window: Singles,
        patients: Patients,
        *,
        week_share: float,
        subsampled: bool,
        seed: int,
    ) -> Verdict:
        """Judge a window of at least five patients and no more than `largest_window`.

        `week_share` is the sum of squares of the weeks' shares of the window.
        """
        comparison = self.compare(window, patients)
        members, weights = comparison.members, comparison.weights
        statistics = comparison.statistics
        p_value, log_p = self._judge(statistics, weights, patients.count)
        singles = np.maximum(np.exp(log_p), self.null.least_p)
        lengths = comparison.lengths
        return Verdict(
            p_value=p_value,
            week_p_value=self._week_p_value(comparison, patients.count, week_share),
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
            effect=self._shift(comparison, patients.count),
            ordinary_effect=self._ordinary(members, week_share),
            smallest_effect=self._smallest(comparison, patients.count),
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
        return self._contributions(self.compare(window, patients), patients)

    def _contributions(self, comparison: Comparison, patients: Patients) -> Floats:
        masses = comparison.sums.masses
        everything = np.ones(len(patients.codes), dtype=bool)
        parts = self._alignments(comparison, patients, everything)
        by_scan = patients.weights(self.dependence.pooled)[patients.codes]
        pairs = masses.sum() ** 2 - np.square(masses).sum()
        weighted: Floats = by_scan * parts / pairs
        return weighted

    def alignments(
        self, scans: Singles, patients: Patients, shifted: Flags
    ) -> tuple[Floats, Floats]:
        """Return how far each scan [n] goes along with the shift of those marked, [n].

        The inner product of its feature with the shifted scans' summed shift, its own
        patient left out, as the detector sees it that leads among the shifted scans: of
        mean zero where nothing shifted. And the `contributions` of those marked, [m].
        """
        rows = np.flatnonzero(shifted)
        comparison = self.compare(scans, patients)
        marked = patients.subset(rows)
        leading = self.compare(scans[rows], marked)
        return (
            self._alignments(comparison, patients, shifted, leading=leading),
            self._contributions(leading, marked),
        )

    def _alignments(
        self,
        comparison: Comparison,
        patients: Patients,
        shifted: Flags,
        *,
        leading: Comparison | None = None,
    ) -> Floats:
        found = leading or comparison
        weights = found.weights
        _, log_p = self._judge(found.statistics, weights, len(found.sums.masses))
        g = _leading(log_p, weights)
        part = comparison.layout.part(g)
        if g in found.growths:
            cell = part.start + int(found.growths[g].argmax())
            part = slice(cell, cell + 1)
        by_scan = patients.weights(self.dependence.pooled)[patients.codes]
        centred = comparison.features[:, part] - self.centre[part]
        marked = (by_scan * shifted)[:, None].astype(np.float32) * centred
        own = patients.sums(marked)
        others = own.sum(axis=0, dtype=np.float64) - own
        products: Floats = np.einsum(
            "ij,ij->i", centred, others[patients.codes], dtype=np.float64
        )
        return products

    def outlier_scores(self, window: Singles) -> Floats:
        """Return each scan's log-Mahalanobis rank among held-out reference scans, [n]."""
        finest = next(m for m in self.members if isinstance(m, LogMahalanobis))
        basis = self.fit.frame.basis
        principal = basis.principal(basis.centred(window))
        return ranks(log_distances(principal, finest.precisions), finest.scores)

    @property
    def _caution(self) -> float:
        """What statistics are divided by before they are referred to the null.

        Members' scales are estimated from the null's patients, with a relative variance of
        the order of 1 over their number; the combination picks out those that were
        estimated too small.
        """
        return 1.0 + _CAUTION / self.null.patients

    def _judge(
        self, statistics: Floats, weights: Floats, patients: int
    ) -> tuple[float, Floats]:
        """Return the portfolio's p-value and the members' log p-values [G]."""
        return self.null.p_values(
            statistics / self._caution, patients=patients, weights=weights
        )

    def _week_p_value(
        self, comparison: Comparison, patients: int, share: float
    ) -> float | None:
        if self.weeks is None:
            return None
        statistics = comparison.weekly_statistics(self.weeks, self.traces, share=share)
        return self._judge(statistics, comparison.weights, patients)[0]

    def _ordinary(self, members: Sequence[Member], share: float) -> float | None:
        """Return the shift of the mean that 19 of 20 ordinary weeks stay below."""
        if self.weeks is None:
            return None
        g = _described(members)
        squared = self.weeks.ratios[g] * self.traces[g] * self.weeks.variance(share)
        reach = chi2.ppf(1.0 - _ALPHA, members[g].size) / members[g].size
        return float(np.sqrt(squared * reach))

    def _shift(self, comparison: Comparison, patients: int) -> Shift:
        g = _described(comparison.members)
        part = comparison.layout.part(g)
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

    def _smallest(self, comparison: Comparison, patients: int) -> float:
        # The portfolio rejects for certain when this member alone brings the evidence.
        g = self.design.directions.index(self.design.described)
        weights = comparison.weights
        index = self.null.neighbours(patients)[0][0]
        draws = self.null.evidence[index]
        needed = float(draws[int(np.ceil((1.0 - _ALPHA) * len(draws))) - 1])
        tails = self.null.tails(index)
        return smallest_shift(
            alpha=float(weights[g] / weights.sum() * np.exp(-needed)),
            power=_POWER,
            inverse_size=float(comparison.inverse_sizes[g]),
            directions=comparison.members[g].size,
            deviation=float(tails.deviations[g]) * self._caution,
            skewness=float(tails.skewnesses[g]),
        )


def _described(members: Sequence[Member]) -> int:
    """Return the member that describes how far the mean moved."""
    return [member.name for member in members].index(MEAN_SHIFT)


def _leading(log_p: Floats, weights: Floats) -> int:
    """Return the member with a say whose p-value is smallest, of equals the first."""
    return int(np.argmin(np.where(weights > 0, log_p, np.inf)))


def all_features(members: Sequence[Member], at: Coordinates) -> Singles:
    """Return the members' features side by side, [n, D]."""
    return np.concatenate([member.features(at) for member in members], axis=1)
