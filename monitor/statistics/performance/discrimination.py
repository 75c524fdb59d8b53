"""How well scores rank scans with a finding above scans without: areas under ROC curves.

An area is a mean of *placements*: of each scan with the finding, the share of scans without
it that score lower. DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44:837-845) get the
variance of an area, and of the difference of two areas on the same scans, from the scatter
of placements; Obuchowski (1997, Biometrics 53:567-578) sums them by patient first. With one
scan per patient hers is theirs, so one formula serves both. Where scans weigh the inverse of
their chance of inclusion, placements are shares by weight, and what is summed by patient is each
scan's weight times its placement's distance from the area, as the jackknife has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr
from scipy.stats import rankdata

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.performance.paired_proportions import tango_interval, tango_score
from monitor.statistics.performance.proportions import (
    Booleans,
    Interval,
    checked_patients,
    checked_scores,
    checked_truth,
    checked_weights,
    quantile_of,
    wilson_bounds,
)
from registry.errors import InsufficientDataError

#: Below it a variance is rounding of placements that do not scatter at all.
_NO_SCATTER = 1e-24

#: Share of bootstrap resamples that may lack a class before the interval is refused.
_MAY_LACK_A_CLASS = 0.05


def auc(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: P(score with finding > without), ties half.

    The Mann-Whitney statistic by midranks, in O(n log n).

    Parameters
    ----------
    scores : shape [n]; higher speaks for the finding
    truth : 0 or 1, shape [n]

    Raises
    ------
    InsufficientDataError
        If a class is missing.
    """
    positive = checked_truth(truth)
    with_finding, _ = _placements(
        checked_scores(scores, scans=len(positive), what="scores"), positive
    )
    return float(with_finding.mean())


def _placements(scores: Floats, positive: Booleans) -> tuple[Floats, Floats]:
    """Return placements of scans with the finding [m] and without it [k].

    Through midranks, as Sun and Xu (2014, IEEE Signal Processing Letters 21:1389-1393).
    """
    m = int(np.count_nonzero(positive))
    k = len(positive) - m
    if m == 0 or k == 0:
        raise InsufficientDataError(
            what=f"scans {'with' if m == 0 else 'without'} the finding", needed=1, got=0
        )
    overall = rankdata(scores)
    above = (overall[positive] - rankdata(scores[positive])) / k
    below = (overall[~positive] - rankdata(scores[~positive])) / m
    return above, 1.0 - below


def _weighted_placements(
    scores: Floats, positive: Booleans, weights: Floats
) -> tuple[Floats, Floats]:
    """Return placements as shares by weight, of scans with the finding [m] and without [k]."""
    _placements(scores, positive)  # refuses a missing class
    above = _shares_below(scores[~positive], weights[~positive], scores[positive])
    below = _shares_below(scores[positive], weights[positive], scores[~positive])
    return above, 1.0 - below


def _shares_below(scores: Floats, weights: Floats, at: Floats) -> Floats:
    """Return which share of the weight lies below each value [m], ties half."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    summed = np.concatenate(([0.0], np.cumsum(weights[order])))
    less = summed[np.searchsorted(ordered, at, side="left")]
    not_more = summed[np.searchsorted(ordered, at, side="right")]
    shares: Floats = (less + not_more) / (2.0 * summed[-1])
    return shares


def placed(
    scores: Floats, positive: Booleans, weights: Floats | None
) -> tuple[Floats, Floats, float]:
    """Return placements of scans with the finding [m] and without [k], and the area."""
    if weights is None:
        above, below = _placements(scores, positive)
        return above, below, float(above.mean())
    above, below = _weighted_placements(scores, positive, weights)
    return above, below, float(np.average(above, weights=weights[positive]))


def _variance(
    above: Floats,
    below: Floats,
    positive: Booleans,
    patients: Patients,
    weights: Floats | None = None,
) -> float:
    """Return the variance of the mean placement (Obuchowski 1997, section 3).

    Raises
    ------
    InsufficientDataError
        If fewer than two patients have scans of a class.
    """
    sums, sizes = [], []
    for placements, chosen, what in ((above, positive, "with"), (below, ~positive, "without")):
        codes = patients.codes[chosen]
        having = len(np.unique(codes))
        if having < 2:
            raise InsufficientDataError(
                what=f"patients with scans {what} the finding", needed=2, got=having
            )
        own = None if weights is None else weights[chosen]
        by_patient = _summed(placements, codes, own, patients=patients.count)
        sums.append((by_patient, _finite(having, weights)))
        sizes.append(len(placements) if own is None else float(own.sum()))
    (s10, f10), (s01, f01) = sums
    m, k = sizes
    within = f10 * float(s10 @ s10) / m**2 + f01 * float(s01 @ s01) / k**2
    shared = 2 * _finite(patients.count, weights) * float(s10 @ s01) / (m * k)
    if weights is None:
        return max(0.0, within + shared)
    # Few scans of much weight may lie close together by chance.
    return max(
        within + shared,
        _cost_of_weights(above, positive, weights)
        + _cost_of_weights(below, ~positive, weights),
    )


def _cost_of_weights(placements: Floats, chosen: Booleans, weights: Floats) -> float:
    """Return the variance of a class's mean placement if weights had nothing to do with it."""
    own = weights[chosen]
    scatter = float(
        np.average((placements - np.average(placements, weights=own)) ** 2, weights=own)
    )
    return scatter * float(own @ own) / float(own.sum()) ** 2


def _summed(
    placements: Floats, codes: Integers, weights: Floats | None, *, patients: int
) -> Floats:
    """Return how far each patient's placements lie from their mean, summed, [patients]."""
    if weights is None:
        deviations = placements - placements.mean()
    else:
        deviations = weights * (placements - np.average(placements, weights=weights))
    by_patient = np.bincount(codes, weights=deviations, minlength=patients).astype(np.float64)
    if weights is None:
        return by_patient
    shares = np.bincount(codes, weights=weights, minlength=patients) / weights.sum()
    # As the jackknife does: without a patient of much weight, the mean would be another.
    far: Floats = by_patient / (1.0 - shares)
    return far


def _finite(patients: int, weights: Floats | None) -> float:
    """Return the correction for few patients; sums by weight are the jackknife's already."""
    return patients / (patients - 1) if weights is None else (patients - 1) / patients


def _disjoint_pairs(
    positive: Booleans, patients: Patients, weights: Floats | None = None
) -> float:
    """Return how many independent pairs, one scan of each class, can be formed.

    Weighted patients count as Kish's effective number of them.
    """
    if weights is None:
        return float(
            min(
                len(np.unique(patients.codes[positive])),
                len(np.unique(patients.codes[~positive])),
            )
        )
    of_patients = [
        np.bincount(patients.codes[chosen], weights=weights[chosen])
        for chosen in (positive, ~positive)
    ]
    return min(float(one.sum() ** 2 / (one @ one)) for one in of_patients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An area under a ROC curve."""

    estimate: float
    #: 0 where placements do not scatter
    standard_error: float
    interval: Interval
    positives: int
    negatives: int
    patients: int
    #: independent pairs, one scan of each class
    disjoint_pairs: float

    def bounds(self, z: float) -> tuple[float, float]:
        """Return the interval's bounds at a standard normal quantile, in place of a level."""
        return _area_bounds(
            self.estimate, self.standard_error, disjoint_pairs=self.disjoint_pairs, z=z
        )


def _area_bounds(
    area: float, standard_error: float, *, disjoint_pairs: float, z: float
) -> tuple[float, float]:
    if standard_error == 0.0:
        return wilson_bounds(area * disjoint_pairs, disjoint_pairs, z=z)
    half = z * standard_error / (area * (1 - area))
    centre = float(logit(area))
    return min(area, float(expit(centre - half))), max(area, float(expit(centre + half)))


def estimate_auc(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> Area:
    """Return the area with its interval, symmetric on the logit scale.

    Where placements do not scatter (an area of 1), they say nothing about the variance.
    The interval is then Wilson's for the share of concordant pairs among the disjoint
    pairs of patients that can be formed, which are independent.

    Parameters
    ----------
    scores : shape [n]; higher speaks for the finding
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If fewer than two patients have scans with, or without the finding.
    """
    positive = checked_truth(truth)
    groups = checked_patients(patients, scans=len(positive))
    weighing = checked_weights(weights, scans=len(positive))
    above, below, area = placed(
        checked_scores(scores, scans=len(positive), what="scores"), positive, weighing
    )
    variance = _variance(above, below, positive, groups, weighing)
    error = math.sqrt(variance) if variance > _NO_SCATTER and 0.0 < area < 1.0 else 0.0
    pairs = _disjoint_pairs(positive, groups, weighing)
    low, high = _area_bounds(area, error, disjoint_pairs=pairs, z=quantile_of(level))
    return Area(
        estimate=area,
        standard_error=error,
        interval=Interval(low=low, high=high, level=level),
        positives=len(above),
        negatives=len(below),
        patients=groups.count,
        disjoint_pairs=pairs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaDifference:
    """Second area less first, on the same scans."""

    first: float
    second: float
    #: 0 where the difference of placements does not scatter
    standard_error: float
    interval: Interval
    scans: int
    patients: int
    #: independent pairs, one scan of each class
    disjoint_pairs: float

    @property
    def estimate(self) -> float:
        return self.second - self.first

    def p_greater(self, than: float) -> float:
        """Return the one-sided p-value against "the difference is at most `than`"."""
        if self.standard_error > 0.0:
            return float(ndtr((than - self.estimate) / self.standard_error))
        gained, lost = _as_pairs(self.estimate, self.disjoint_pairs)
        return float(ndtr(-tango_score(gained, lost, self.disjoint_pairs, difference=than)))


def _as_pairs(difference: float, pairs: float) -> tuple[float, float]:
    return max(0.0, difference) * pairs, max(0.0, -difference) * pairs


def compare_aucs(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> AreaDifference:
    """Compare two areas on the same scans: DeLong, summed by patient where needed.

    Where the difference of placements does not scatter (twice the same ranks, or twice
    an area of 1), the interval is Tango's on the disjoint pairs of patients that can be
    formed: even equal areas are then not known to be equal.

    Parameters
    ----------
    first, second : scores of the two models, shape [n]
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If fewer than two patients have scans with, or without the finding.
    """
    positive = checked_truth(truth)
    scans = len(positive)
    groups = checked_patients(patients, scans=scans)
    weighing = checked_weights(weights, scans=scans)
    above_1, below_1, area_1 = placed(
        checked_scores(first, scans=scans, what="first scores"), positive, weighing
    )
    above_2, below_2, area_2 = placed(
        checked_scores(second, scans=scans, what="second scores"), positive, weighing
    )
    variance = _variance(above_2 - above_1, below_2 - below_1, positive, groups, weighing)
    areas = area_1, area_2
    difference = areas[1] - areas[0]
    pairs = _disjoint_pairs(positive, groups, weighing)
    if variance <= _NO_SCATTER:
        variance = 0.0
        interval = tango_interval(*_as_pairs(difference, pairs), pairs, level=level)
    else:
        half = quantile_of(level) * math.sqrt(variance)
        interval = Interval(
            low=max(-1.0, difference - half), high=min(1.0, difference + half), level=level
        )
    return AreaDifference(
        first=areas[0],
        second=areas[1],
        standard_error=math.sqrt(variance),
        interval=interval,
        scans=scans,
        patients=groups.count,
        disjoint_pairs=pairs,
    )


def bootstrap_auc_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Return the percentile bootstrap interval of second area less first, by patient.

    It needs no formula of the variance, so that it can be had for any weighting of scans.
    Resamples without one of the classes are left out.

    Parameters
    ----------
    first, second : scores of the two models, shape [n]
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval
    resamples : number of bootstrap samples of patients
    seed : of the generator

    Raises
    ------
    InsufficientDataError
        If a class is missing, or so rare that more than 5 % of resamples lack it.
    """
    positive = checked_truth(truth)
    scans = len(positive)
    groups = checked_patients(patients, scans=scans)
    models = [
        _RankedOnce(checked_scores(scores, scans=scans, what=what), positive)
        for scores, what in ((first, "first scores"), (second, "second scores"))
    ]
    own = checked_weights(weights, scans=scans)
    times = 1.0 if own is None else own
    drawn = [
        models[1].area(times * counts) - models[0].area(times * counts)
        for counts in resampled_weights(groups, resamples=resamples, seed=seed)
        if counts[positive].any() and counts[~positive].any()
    ]
    needed = math.ceil(resamples * (1 - _MAY_LACK_A_CLASS))
    if len(drawn) < needed:
        raise InsufficientDataError(
            what=f"resamples, of {resamples}, that hold both classes",
            needed=needed,
            got=len(drawn),
        )
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high), level=level)


class _RankedOnce:
    """Scores sorted once, so that an area under new weights costs O(n)."""

    def __init__(self, scores: Floats, positive: Booleans) -> None:
        self._positive = positive
        values, self._bins = np.unique(scores, return_inverse=True)
        self._size = len(values)

    def area(self, weights: Floats) -> float:
        """Return the area when scan i counts `weights[i]` times."""
        positive, bins = self._positive, self._bins
        rising = np.bincount(bins[positive], weights[positive], minlength=self._size)
        falling = np.bincount(bins[~positive], weights[~positive], minlength=self._size)
        lower = np.cumsum(falling) - 0.5 * falling
        return float(rising @ lower / (rising.sum() * falling.sum()))
