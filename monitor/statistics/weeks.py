"""Ordinary weeks differ: how much, learnt from the weeks that a reference spans.

Case mix and settings vary a little from week to week, and a large window sees it. A week
is to its scans what a patient is to his: a cluster. With r the variance between weeks in
variances of one scan, the mean feature of a week of n scans has the variance 1/n + r, and

    T = (U - r (1 + 1/W) trace) / (1/n + 1/N + r (1 + 1/W))

has the law of a statistic without week effects, W the weeks of the reference. It grows
only beyond the band in which ordinary weeks lie: an interval null in place of a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.null import NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums, growths

#: weeks below which their variance is not estimated
LEAST_WEEKS = 8
#: patients that a week needs to count as one of these
LEAST_WEEK_PATIENTS = 20
# Patients below which a week, among others that are large enough, is not heard.
_LEAST_COUNTED = 5
_MOST_LEVERAGE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekEffects:
    """How much ordinary weeks differ."""

    #: weeks that were compared
    weeks: int
    #: [G] variance between weeks, in variances of one scan, with a standard error added
    ratios: Floats
    #: [D] the same of each feature of a peaked member; 0 elsewhere
    feature_ratios: Floats
    #: [G] spread of past weeks' T over that of the null, at least 1
    inflations: Floats

    def variance(self, share: float) -> float:
        """Return the variance of a window against the reference, in variances of weeks.

        The reference's own weeks add to the window's. `share` is the sum of squares of the
        weeks' shares of the window: 1 for a window of one week.
        """
        return share + 1.0 / self.weeks


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekSums:
    """Weighted features summed by week."""

    #: [W, D]
    sums: Floats
    #: [W, G] squared lengths of the sums of each patient in a week, added up
    squares: Floats
    #: [W, G] of the weights
    masses: Floats
    #: [W, G] of the squared weights of each patient
    squared_masses: Floats
    #: [W, G]
    spreads: Floats
    #: [W, G] patients
    counts: Floats

    @classmethod
    def empty(cls, weeks: int, layout: Layout) -> WeekSums:
        """Return the sums of no scans."""
        table = (weeks, layout.members)
        return cls(
            sums=np.zeros((weeks, int(layout.edges[-1]))),
            squares=np.zeros(table),
            masses=np.zeros(table),
            squared_masses=np.zeros(table),
            spreads=np.zeros(table),
            counts=np.zeros(table),
        )

    def add(
        self,
        features: Singles,
        patients: Patients,
        week: Integers,
        *,
        dependence: Dependence,
        layout: Layout,
        counted: Flags,
    ) -> None:
        """Add scans in place.

        Parameters
        ----------
        features : [n, D] of all members
        patients : of the scans
        week : [n] number of each scan's week
        counted : [G] members for which these scans count
        """
        # A patient seen in two weeks is a unit in each.
        units = Patients.of(patients.codes * len(self.sums) + week, scans=len(week))
        week_of_unit = np.zeros(units.count, dtype=np.int64)
        week_of_unit[units.codes] = week
        sums = PatientSums.of(features, units, dependence)
        belongs = (np.arange(len(self.sums))[:, None] == week_of_unit).astype(np.float64)
        by_feature = np.repeat(counted, np.diff(layout.edges))
        self.sums[:] += (belongs @ sums.sums) * by_feature
        self.squares[:] += (belongs @ layout.squared(sums.sums)) * counted
        self.masses[:] += np.outer(belongs @ sums.masses, counted)
        self.squared_masses[:] += np.outer(belongs @ sums.masses**2, counted)
        self.spreads[:] += (belongs @ sums.spreads) * counted
        self.counts[:] += np.outer(belongs.sum(axis=1), counted)


def week_effects(
    sums: WeekSums, *, layout: Layout, traces: Floats, leverages: Floats, null: NullTable
) -> WeekEffects:
    """Estimate how much weeks differ, each against all others.

    Weeks too small for every member are left out of the estimate. The estimates carry one
    standard error of theirs, so that a band learnt from few weeks is rather too wide.

    Parameters
    ----------
    traces : [G] variance of one scan's features
    leverages : [G] whitened directions over patients: scans that took part in a whitening
        lie closer together in it, and so do their weeks, by up to this share
    null : of T without week effects
    """
    kept = (sums.counts >= _LEAST_COUNTED).all(axis=1)
    weeks = int(kept.sum())
    shifts, inverse, growth = (part[kept] for part in _against_others(sums, layout))
    # A week against all others differs by both their effects.
    share = 1.0 + 1.0 / (weeks - 1)
    kept_apart = (1.0 - np.minimum(leverages, _MOST_LEVERAGE)) ** 2
    estimates = shifts / (traces * share * kept_apart)
    ratios = _with_error(estimates)
    # Where features are shares, each cell has a variance of its own.
    feature_ratios = np.zeros(int(layout.edges[-1]))
    for g in np.flatnonzero(layout.peaked).tolist():
        part = layout.part(g)
        squares = (growth[:, part] ** 2 - inverse[:, g, None]) / share
        feature_ratios[part] = _with_error(squares)
    statistics = (shifts - ratios * traces) / (inverse + ratios * share)
    deviations = np.stack(
        [
            null.deviations[null.neighbours(int(count))[0][0]]
            for count in sums.counts[kept][:, 0]
        ]
    )
    spread = np.sqrt(np.mean((statistics / deviations) ** 2, axis=0))
    return WeekEffects(
        weeks=weeks,
        ratios=np.where(layout.peaked, 0.0, ratios),
        feature_ratios=feature_ratios,
        inflations=np.where(layout.peaked, 1.0, np.maximum(spread, 1.0)),
    )


def _with_error(estimates: Floats) -> Floats:
    """Return the mean over weeks [W, ...] plus its standard error, at least 0."""
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    mean: Floats = np.maximum(estimates.mean(axis=0) + error, 0.0)
    return mean


def _against_others(sums: WeekSums, layout: Layout) -> tuple[Floats, Floats, Floats]:
    """Return each week's unbiased squared shift from all others [W, G].

    Beside it 1/n + 1/N [W, G], and growths of shares [W, D], 0 where features are none.
    """
    features, masses = sums.sums, sums.masses
    rest, rest_masses = features.sum(axis=0) - features, masses.sum(axis=0) - masses
    pairs = masses**2 - sums.squared_masses
    rest_pairs = rest_masses**2 - (sums.squared_masses.sum(axis=0) - sums.squared_masses)
    rest_squares = sums.squares.sum(axis=0) - sums.squares
    with np.errstate(divide="ignore", invalid="ignore"):
        # Weeks without scans divide by nothing; they are left out by their count.
        shifts = (
            (layout.squared(features) - sums.squares) / pairs
            + (layout.squared(rest) - rest_squares) / rest_pairs
            - 2.0 * layout.added(features * rest) / (masses * rest_masses)
        )
        own = sums.spreads / masses**2
        other = (sums.spreads.sum(axis=0) - sums.spreads) / rest_masses**2
        growth = np.zeros_like(features)
        for g in np.flatnonzero(layout.peaked).tolist():
            part = layout.part(g)
            growth[:, part] = growths(
                features[:, part] / masses[:, g, None],
                own[:, g],
                rest[:, part] / rest_masses[:, g, None],
                other[:, g],
            )
    return shifts, own + other, growth
