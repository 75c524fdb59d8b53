"""Two models that tell several classes apart: averages over classes, one against the rest.

A macro average gives every class the same weight, however rare: of areas (Hand and Till 2001,
Machine Learning 45:171-186, discuss its kin) and of sensitivities at the class that a model
ranks first, which is known as balanced accuracy. Areas and sensitivities of several classes are
of the same scans, so that their variances do not add up: each is written as a sum of what every
patient contributes, the contributions are added over classes, and their scatter between patients
gives the variance of the average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.performance.discrimination import placed
from monitor.statistics.performance.proportions import (
    Interval,
    checked_patients,
    checked_weights,
    quantile_of,
)
from registry.errors import BadInputError, InsufficientDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroDifference:
    """Second average over classes less first, on the same scans; normal by patient."""

    first: float
    second: float
    standard_error: float
    interval: Interval
    scans: int
    patients: int
    classes: int

    @property
    def estimate(self) -> float:
        return self.second - self.first

    def p_greater(self, than: float) -> float:
        """Return the one-sided p-value against "the difference is at most `than`"."""
        return float(ndtr((than - self.estimate) / self.standard_error))


def compare_macro_aucs(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> MacroDifference:
    """Compare the mean area of one class against the rest.

    With two classes it is the comparison of areas, but for the correction for few patients.

    Parameters
    ----------
    first, second : probabilities of the two models, shape [n, k]
    truth : class of each scan, 0 .. k - 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If a class is missing, or if there are fewer than two patients.
    """
    one, two, classes, groups, times = _checked(first, second, truth, patients, weights)
    influence = np.zeros(len(classes))
    means = np.zeros(2)
    for code in range(one.shape[1]):
        positive = classes == code
        for sign, which, scores in ((-1.0, 0, one[:, code]), (1.0, 1, two[:, code])):
            above, below, area = placed(scores, positive, times)
            means[which] += area / one.shape[1]
            for placements, rows in ((above, positive), (below, ~positive)):
                own = times[rows]
                influence[rows] += sign * own * (placements - area) / own.sum() / one.shape[1]
    return _difference(means, influence, groups, classes=one.shape[1], level=level)


def compare_macro_sensitivities(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> MacroDifference:
    """Compare the mean over classes of how often a scan's own class is ranked first.

    Of equal probabilities the first class counts. Parameters as `compare_macro_aucs`.
    """
    one, two, classes, groups, times = _checked(first, second, truth, patients, weights)
    right = [np.argmax(scores, axis=1) == classes for scores in (one, two)]
    influence = np.zeros(len(classes))
    means = np.zeros(2)
    for code in range(one.shape[1]):
        rows = classes == code
        own = times[rows] / times[rows].sum() / one.shape[1]
        for sign, which in ((-1.0, 0), (1.0, 1)):
            hits = right[which][rows].astype(np.float64)
            of_class = float(own @ hits)
            means[which] += of_class
            influence[rows] += sign * own * (hits - of_class * one.shape[1])
    return _difference(means, influence, groups, classes=one.shape[1], level=level)


def _checked(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None,
    weights: npt.ArrayLike | None,
) -> tuple[Floats, Floats, Integers, Patients, Floats]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    classes = np.asarray(truth)
    if one.ndim != 2 or one.shape != two.shape or classes.shape != one.shape[:1]:
        raise BadInputError(
            f"scores have shapes {list(one.shape)} and {list(two.shape)}, classes "
            f"{list(classes.shape)}: pass scores [scans, classes] and a class for each scan"
        )
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise BadInputError("scores hold NaN or infinities: read the scans again")
    if classes.dtype.kind not in "biu" or not np.isin(classes, np.arange(one.shape[1])).all():
        raise BadInputError(f"classes must be whole numbers from 0 to {one.shape[1] - 1}")
    for code in range(one.shape[1]):
        if not (classes == code).any():
            raise InsufficientDataError(what=f"scans of class {code}", needed=1, got=0)
    groups = checked_patients(patients, scans=len(classes))
    if groups.count < 2:
        raise InsufficientDataError(
            what="patients for a comparison", needed=2, got=groups.count
        )
    times = checked_weights(weights, scans=len(classes))
    return (
        one,
        two,
        classes.astype(np.int64),
        groups,
        np.ones(len(classes)) if times is None else times,
    )


def _difference(
    means: Floats, influence: Floats, groups: Patients, *, classes: int, level: float
) -> MacroDifference:
    by_patient = np.bincount(groups.codes, weights=influence)
    # One patient on whom the two differ in one scan is the least that a variance can be known
    # to: models that agree everywhere are not known to.
    least = 1.0 / (classes * len(influence))
    variance = groups.count / (groups.count - 1) * float(by_patient @ by_patient) + least**2
    error = math.sqrt(variance)
    difference = float(means[1] - means[0])
    half = quantile_of(level) * error
    return MacroDifference(
        first=float(means[0]),
        second=float(means[1]),
        standard_error=error,
        interval=Interval(low=difference - half, high=difference + half, level=level),
        scans=len(influence),
        patients=groups.count,
        classes=classes,
    )
