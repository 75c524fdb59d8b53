"""Sensitivity, specificity and other proportions: score intervals, by patient.

Scans of one patient are dependent. Wherever patients are given, counts are divided by the
design effect (Rao and Scott 1992, Biometrics 48:577-585): the variance of the estimate
between patients, divided by what it would be if scans were independent. The score methods
then run on effective, not necessarily whole, counts. With one scan per patient the design
effect is exactly 1; it is never taken to be below 1.

Labels may be a probability sample with unequal chances of inclusion. Scans then weigh the
inverse of that chance (Hajek's estimate), and the design effect holds the weights, too: its
variance is that of the jackknife by patient, and it is never taken to be below what the
weights alone cost (Kish 1965, *Survey Sampling*, section 11.7), since few errors with
unequal weights give a variance that is too small by chance. With equal weights all of it is the
unweighted method, to the last digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Identifiers, Patients
from registry.errors import BadInputError, InsufficientDataError

Booleans: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    #: confidence, for instance 0.95
    level: float

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise BadInputError(f"a confidence level lies between 0 and 1, got {self.level}")
        if not self.low <= self.high:
            raise BadInputError(f"an interval needs low <= high, got {self.low}, {self.high}")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def quantile_of(level: float) -> float:
    """Return the standard normal quantile of a two-sided confidence level."""
    if not 0.0 < level < 1.0:
        raise BadInputError(f"a confidence level lies between 0 and 1, got {level}")
    return -float(ndtri((1.0 - level) / 2.0))


def checked_truth(truth: npt.ArrayLike) -> Booleans:
    """Return the truth as booleans [n], or refuse it.

    Raises
    ------
    BadInputError
        If it is not a one-dimensional array of 0 and 1, or of booleans.
    """
    array = np.asarray(truth)
    if array.ndim != 1 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise BadInputError(
            f"truth must be one 0 or 1 for each scan, got {array.dtype} of shape "
            f"{list(array.shape)}: leave scans without a label out"
        )
    return array.astype(np.bool_)


def checked_scores(scores: npt.ArrayLike, *, scans: int, what: str) -> Floats:
    """Return one finite float64 for each scan, [scans], or refuse them.

    Raises
    ------
    BadInputError
        If the shape differs or a value is not finite.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (scans,):
        raise BadInputError(
            f"{what} have shape {list(array.shape)}, and there are {scans} scans"
        )
    broken = int(np.count_nonzero(~np.isfinite(array)))
    if broken:
        raise BadInputError(f"{broken} of {scans} {what} are NaN or infinite: read them again")
    return array


def checked_patients(patients: Identifiers | None, *, scans: int) -> Patients:
    """Group scans by patient; without identifiers each scan is its own patient.

    Raises
    ------
    BadInputError
        If there is not one identifier, a string or an integer, for each scan.
    """
    if patients is not None and np.shape(patients) != (scans,):
        raise BadInputError(
            f"patient identifiers have shape {list(np.shape(patients))}, and there are "
            f"{scans} scans: pass one for each, or none at all"
        )
    return Patients.of(patients, scans=scans)


def checked_weights(weights: npt.ArrayLike | None, *, scans: int) -> Floats | None:
    """Return weights that sum to the number of scans, [scans], or None where all are equal.

    Parameters
    ----------
    weights : the inverse of each scan's chance of inclusion, in any unit, or None

    Raises
    ------
    BadInputError
        If there is not one weight for each scan, or one is not above 0 and finite.
    """
    if weights is None:
        return None
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (scans,) or not (np.isfinite(array) & (array > 0.0)).all():
        raise BadInputError(
            f"weights must be {scans} finite numbers above 0, one for each scan, got shape "
            f"{list(array.shape)}: pass the inverse of each scan's chance of inclusion"
        )
    if scans == 0 or (array == array[0]).all():
        return None
    scaled: Floats = array * (scans / array.sum())
    return scaled


def counted(chosen: Booleans, weights: Floats | None) -> float:
    """Return how many scans are chosen, by weight; a whole number where there are none."""
    return float(np.count_nonzero(chosen) if weights is None else weights[chosen].sum())


def design_effect(
    deviations: Floats, patients: Patients, weights: Floats | None = None
) -> float:
    """Return how many scans of these patients say as much as one independent scan.

    Parameters
    ----------
    deviations : float64, shape [n], each scan's value less the mean of all
    patients : whose scans they are
    weights : as `checked_weights` returned them
    """
    if weights is not None:
        return _weighted_design_effect(deviations, patients, weights)
    scans = len(deviations)
    if patients.count == scans:
        return 1.0
    between = float(np.sum(np.bincount(patients.codes, weights=deviations) ** 2))
    within = float(np.sum(deviations**2))
    if patients.count < 2 or within <= scans * 1e-24:
        # All scans agree, so that their correlation cannot be seen: take it to be 1.
        return float(np.sum(patients.scans.astype(np.float64) ** 2)) / scans
    bessel = patients.count / (patients.count - 1) * (scans - 1) / scans
    return max(1.0, bessel * between / within)


def _weighted_design_effect(deviations: Floats, patients: Patients, weights: Floats) -> float:
    scans = len(deviations)
    within = float(np.sum(weights * deviations**2))
    if patients.count < 2 or within <= scans * 1e-24:
        # Their correlation cannot be seen: the scans of a patient count as one.
        return float(np.sum(np.bincount(patients.codes, weights=weights) ** 2)) / scans
    sums = np.bincount(patients.codes, weights=weights * deviations)
    # As the jackknife does: without a patient of much weight, the mean would be another.
    shares = np.bincount(patients.codes, weights=weights) / scans
    between = float(np.sum((sums / (1.0 - shares)) ** 2))
    bessel = (patients.count - 1) / patients.count * (scans - 1) / scans
    of_weights = float(np.sum(weights**2)) / scans
    return max(of_weights, bessel * between / within)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A proportion of scans, with Wilson's score interval on effective counts."""

    #: by weight, in scans
    successes: float
    scans: int
    patients: int
    #: scans that say as much as one independent scan, >= 1
    design_effect: float
    interval: Interval

    @property
    def estimate(self) -> float:
        return self.successes / self.scans

    def bounds(self, z: float) -> tuple[float, float]:
        """Return Wilson's bounds at a standard normal quantile, in place of a level."""
        effect = self.design_effect
        return wilson_bounds(self.successes / effect, self.scans / effect, z=z)


def wilson(successes: float, trials: float, *, level: float) -> Interval:
    """Return Wilson's score interval of a proportion.

    Wilson (1927), JASA 22:209-212. Real-valued counts are allowed, for effective ones.

    Raises
    ------
    InsufficientDataError
        If there are no trials.
    BadInputError
        If the successes are not between 0 and the trials.
    """
    if trials <= 0:
        raise InsufficientDataError(what="scans for a proportion", needed=1, got=0)
    if not 0 <= successes <= trials:
        raise BadInputError(f"{successes} successes in {trials} trials: count them again")
    low, high = wilson_bounds(successes, trials, z=quantile_of(level))
    return Interval(low=low, high=high, level=level)


def wilson_bounds(successes: float, trials: float, *, z: float) -> tuple[float, float]:
    """Return the bounds of `wilson` at a standard normal quantile, in place of a level."""
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    shrink = 1 + z**2 / trials
    # At 0 and 1 the bound is exact on paper, and a rounding error away from it here.
    low = 0.0 if successes == 0 else min(share, max(0.0, (centre - half) / shrink))
    high = 1.0 if successes == trials else max(share, min(1.0, (centre + half) / shrink))
    return low, high


def proportion(
    events: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> Proportion:
    """Return the proportion of scans with an event, its interval clustered by patient.

    Parameters
    ----------
    events : booleans or 0 and 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If there is no scan.
    """
    happened = checked_truth(events)
    scans = len(happened)
    if scans == 0:
        raise InsufficientDataError(what="scans for a proportion", needed=1, got=0)
    groups = checked_patients(patients, scans=scans)
    weighing = checked_weights(weights, scans=scans)
    # Rounding may put the sum of weights a digit above the number of scans.
    successes = min(counted(happened, weighing), float(scans))
    effect = design_effect(happened.astype(np.float64) - successes / scans, groups, weighing)
    return Proportion(
        successes=successes,
        scans=scans,
        patients=groups.count,
        design_effect=effect,
        interval=wilson(successes / effect, scans / effect, level=level),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What a threshold does: a probability at or above it is called positive."""

    threshold: float
    #: of scans with the finding
    sensitivity: Proportion
    #: of scans without it
    specificity: Proportion


def operating_point(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    threshold: float,
    patients: Identifiers | None = None,
    level: float,
) -> OperatingPoint:
    """Return sensitivity and specificity at a threshold, with intervals by patient.

    Parameters
    ----------
    probabilities : of the positive class, shape [n]
    truth : 0 or 1, shape [n]
    threshold : positive is `probability >= threshold`
    patients : identifiers, shape [n], or None
    level : confidence of both intervals

    Raises
    ------
    InsufficientDataError
        If scans with, or scans without the finding are missing.
    """
    positive = checked_truth(truth)
    scores = checked_scores(probabilities, scans=len(positive), what="probabilities")
    groups = checked_patients(patients, scans=len(positive))
    called = scores >= threshold
    return OperatingPoint(
        threshold=threshold,
        sensitivity=proportion(called[positive], groups.codes[positive], level=level),
        specificity=proportion(~called[~positive], groups.codes[~positive], level=level),
    )
