"""Sensitivity and specificity where only some scans have a label, and which depends on the call.

Scans that a model called positive are looked at again more often than others; among the scans
that have a label, sensitivity then looks too high and specificity too low. If within each
stratum of what the model said the labelled scans are like the others, the truth of all follows
from P(finding | stratum), known from labels, and from how many scans each stratum has (Begg and
Greenes 1983, *Biometrics* 39:207-215). Strata are the call, and within each call bands of the
score. Variances are those of the linearised estimate, summed by patient (Zhou 1993,
*Communications in Statistics* 22:1177-1198, is the same for one scan per patient and two
strata); the intervals are symmetric in log-odds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.patients import Identifiers
from monitor.statistics.performance.proportions import (
    Booleans,
    Interval,
    Proportion,
    checked_patients,
    checked_scores,
    checked_truth,
    proportion,
    quantile_of,
)
from registry.errors import BadInputError, InsufficientDataError

#: Labelled scans that a band of scores needs besides another, of either side.
LEAST_IN_A_BAND = 20
_MOST_BANDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A proportion among all scans, estimated from those that have a label."""

    estimate: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How often scans with one call have a label."""

    scans: int
    labelled: int

    @property
    def share(self) -> float:
        return self.labelled / self.scans if self.scans else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationBias:
    """What the choice of the scans that have a label did to two measures."""

    called_positive: Side
    called_negative: Side
    #: bands of the score within which labelled scans are taken to be like the others
    strata: int
    #: among scans that have a label
    naive_sensitivity: Proportion
    naive_specificity: Proportion
    #: among all
    sensitivity: Corrected
    specificity: Corrected


def verification_bias(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    labelled: npt.ArrayLike,
    *,
    threshold: float,
    patients: Identifiers | None = None,
    level: float,
) -> VerificationBias:
    """Estimate sensitivity and specificity among all scans, and among the labelled ones.

    Parameters
    ----------
    scores : of every scan, shape [n]
    truth : 0 or 1, shape [n]; passed over where there is no label
    labelled : whether a scan has one, shape [n]
    threshold : a score at or above it is called positive
    patients : identifiers, shape [n], or None where each scan is its own patient
    level : confidence of the intervals

    Raises
    ------
    InsufficientDataError
        If scans of one call have no label, or a class is missing among the labels.
    """
    known = checked_truth(labelled)
    scans = len(known)
    ill = checked_truth(truth)
    if len(ill) != scans:
        raise BadInputError(f"{len(ill)} truths came with {scans} scans: pass one for each")
    ill = ill & known
    values = checked_scores(scores, scans=scans, what="scores")
    groups = checked_patients(patients, scans=scans)
    called = values >= threshold
    for what, needed in (
        ("labelled scans that were called positive", known & called),
        ("labelled scans that were called negative", known & ~called),
        ("labelled scans with the finding", ill),
        ("labelled scans without the finding", known & ~ill),
    ):
        if not needed.any():
            raise InsufficientDataError(what=what, needed=1, got=0)
    strata = _strata(values, called, known)
    numbers = groups.codes
    naive = known & ill, known & ~ill
    return VerificationBias(
        called_positive=_side(called, known),
        called_negative=_side(~called, known),
        strata=int(strata.max()) + 1,
        naive_sensitivity=proportion(called[naive[0]], numbers[naive[0]], level=level),
        naive_specificity=proportion(~called[naive[1]], numbers[naive[1]], level=level),
        sensitivity=_corrected(strata, called, ill, known, numbers, level=level),
        specificity=_corrected(strata, ~called, known & ~ill, known, numbers, level=level),
    )


def _side(chosen: Booleans, known: Booleans) -> Side:
    return Side(
        scans=int(np.count_nonzero(chosen)), labelled=int(np.count_nonzero(chosen & known))
    )


def _strata(scores: Floats, called: Booleans, known: Booleans) -> Integers:
    """Return the number of each scan's stratum, [n]: bands of equally many labels by call."""
    strata = np.zeros(len(scores), dtype=np.int64)
    first = 0
    for side in (~called, called):
        labels = scores[side & known]
        bands = max(1, min(_MOST_BANDS, len(labels) // LEAST_IN_A_BAND))
        inner = np.unique(np.quantile(labels, np.arange(1, bands) / bands))
        within = np.searchsorted(inner, scores[side], side="right")
        # Ties may leave a band without labels: it joins the one below.
        for band in range(len(inner), 0, -1):
            if not (known[side] & (within == band)).any():
                within[within >= band] -= 1
        if not (known[side] & (within == 0)).any():
            within = np.maximum(within - 1, 0)
        strata[side] = first + within
        first = int(strata[side].max()) + 1
    return strata


def _corrected(
    strata: Integers,
    right: Booleans,
    of_class: Booleans,
    known: Booleans,
    patients: Integers,
    *,
    level: float,
) -> Corrected:
    """Return the share of a class that was called right, by Begg and Greenes.

    Parameters
    ----------
    right : the call is that of the class
    of_class : labelled, and of the class
    """
    count = int(strata.max()) + 1
    sizes = np.bincount(strata, minlength=count).astype(np.float64)
    labels = np.bincount(strata[known], minlength=count).astype(np.float64)
    rates = np.bincount(strata[of_class], minlength=count) / labels
    # All scans of a stratum have one call.
    called_right = np.zeros(count)
    called_right[strata[right]] = 1.0
    members = sizes * rates
    total, found = members.sum(), (members * called_right).sum()
    if total <= 0.0:
        raise InsufficientDataError(what="labelled scans of a class", needed=1, got=0)
    estimate = float(found / total)
    # What a scan adds to numerator less estimate times denominator: by being in its stratum,
    # and, where it has a label, by what that says beyond the stratum's rate.
    gradient = (called_right - estimate) / total
    influence = gradient[strata] * rates[strata]
    surplus = of_class.astype(np.float64) - rates[strata]
    influence += np.where(known, gradient[strata] * (sizes / labels)[strata] * surplus, 0.0)
    by_patient = np.bincount(patients, weights=influence)
    error = math.sqrt(float(by_patient @ by_patient))
    return Corrected(estimate=estimate, interval=_by_log_odds(estimate, error, level=level))


def _by_log_odds(estimate: float, error: float, *, level: float) -> Interval:
    if not 0.0 < estimate < 1.0:
        # No error was seen: nothing tells how far it may be from there.
        return Interval(low=0.0, high=1.0, level=level)
    centre = math.log(estimate / (1.0 - estimate))
    half = quantile_of(level) * error / (estimate * (1.0 - estimate))
    low, high = (1.0 / (1.0 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return Interval(low=min(low, estimate), high=max(high, estimate), level=level)
