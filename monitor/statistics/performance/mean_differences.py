"""The mean of a difference that scans have, with an interval by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from monitor.statistics.patients import Identifiers
from monitor.statistics.performance.proportions import (
    Interval,
    checked_patients,
    checked_scores,
    checked_weights,
    quantile_of,
)
from registry.errors import InsufficientDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """A mean difference, normal by patient."""

    estimate: float
    standard_error: float
    interval: Interval
    scans: int
    patients: int

    def p_greater(self, than: float) -> float:
        """Return the one-sided p-value against "the difference is at most `than`"."""
        return float(ndtr((than - self.estimate) / self.standard_error))


def mean_difference(
    differences: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    step: float,
    level: float,
) -> MeanDifference:
    """Return the mean of scans' differences, its error linearised and summed by patient.

    Differences that are all alike say nothing of how they scatter. The sum of squares
    therefore holds, besides what was seen, half a patient on each side who is off by `step`,
    as Agresti and Min (2005, Biometrics 61:515-523) add half a count to each discordant cell:
    the error is never 0, and shrinks as 1 / n where nothing scatters.

    Parameters
    ----------
    differences : one for each scan, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    step : the least difference but 0 that a scan can have
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If there are fewer than two patients.
    """
    scans = len(np.atleast_1d(differences))
    values = checked_scores(differences, scans=scans, what="differences")
    groups = checked_patients(patients, scans=scans)
    if groups.count < 2:
        raise InsufficientDataError(
            what="patients for a mean difference", needed=2, got=groups.count
        )
    weighing = checked_weights(weights, scans=scans)
    times = np.ones(scans) if weighing is None else weighing
    mean = float(np.average(values, weights=times))
    by_patient = np.bincount(groups.codes, weights=times * (values - mean))
    of_one = np.bincount(groups.codes, weights=times).mean()
    squares = float(by_patient @ by_patient) + (step * of_one) ** 2
    error = float(np.sqrt(groups.count / (groups.count - 1) * squares)) / scans
    half = quantile_of(level) * error
    return MeanDifference(
        estimate=mean,
        standard_error=error,
        interval=Interval(low=mean - half, high=mean + half, level=level),
        scans=scans,
        patients=groups.count,
    )
