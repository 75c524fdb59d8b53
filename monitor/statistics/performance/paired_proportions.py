"""Two models on the same scans: differences of proportions, by score and by McNemar.

Clustered by patient and weighted as `proportions` says: counts are divided by the design effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import bdtrc, ndtr

from monitor.statistics.patients import Identifiers
from monitor.statistics.performance.proportions import (
    Interval,
    checked_patients,
    checked_truth,
    checked_weights,
    counted,
    design_effect,
    quantile_of,
)
from registry.errors import BadInputError, InsufficientDataError

#: Distance kept from a difference of -1 or 1, where the score's variance vanishes.
_EDGE = 1e-12


def tango_score(gained: float, lost: float, pairs: float, *, difference: float) -> float:
    """Return Tango's score statistic of a paired difference, standard normal under H0.

    Tango (1998), Statistics in Medicine 17:891-908, eq. 8: the discordant counts against
    a stated `difference`, with the variance at the maximum of the likelihood under it.
    At a difference of 0 it is McNemar's (gained - lost) / sqrt(gained + lost).

    Parameters
    ----------
    gained : pairs in which only the second is right
    lost : pairs in which only the first is right
    pairs : all pairs
    difference : hypothesised probability of gaining less that of losing, in (-1, 1)
    """
    b = (2 * pairs - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    losing = (math.sqrt(max(0.0, b * b - 8 * pairs * c)) - b) / (4 * pairs)
    variance = pairs * (2 * losing + difference * (1 - difference))
    excess = gained - lost - pairs * difference
    if variance <= 0.0:
        return 0.0 if excess == 0.0 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def tango_interval(gained: float, lost: float, pairs: float, *, level: float) -> Interval:
    """Return Tango's score interval of a paired difference of proportions.

    The differences that `tango_score` does not reject. It holds its level where no pair
    is discordant, and stays within [-1, 1]. Real-valued counts are allowed.

    Raises
    ------
    InsufficientDataError
        If there is no pair.
    BadInputError
        If the discordant pairs are negative, or more than all pairs.
    """
    if pairs <= 0:
        raise InsufficientDataError(what="pairs for a difference", needed=1, got=0)
    if gained < 0 or lost < 0 or gained + lost > pairs * (1 + 1e-12):
        raise BadInputError(f"{gained} gained and {lost} lost of {pairs} pairs: count again")
    z = quantile_of(level)
    estimate = (gained - lost) / pairs

    def low_excess(difference: float) -> float:
        return tango_score(gained, lost, pairs, difference=difference) - z

    def high_excess(difference: float) -> float:
        return tango_score(gained, lost, pairs, difference=difference) + z

    low, high = -1.0, 1.0
    if estimate > -1.0 + _EDGE and low_excess(-1.0 + _EDGE) > 0:
        low = min(estimate, float(brentq(low_excess, -1.0 + _EDGE, estimate, xtol=1e-13)))
    if estimate < 1.0 - _EDGE and high_excess(1.0 - _EDGE) < 0:
        high = max(estimate, float(brentq(high_excess, estimate, 1.0 - _EDGE, xtol=1e-13)))
    return Interval(low=low, high=high, level=level)


def mcnemar_p_greater(gained: int, lost: int, *, mid_p: bool) -> float:
    """Return McNemar's one-sided p-value against "the second is right no more often".

    Exact, on the discordant pairs; the mid-p version counts half of the observed outcome,
    is nearly never liberal, and less conservative (Fagerland, Lydersen and Laake 2013,
    BMC Medical Research Methodology 13:91).

    Raises
    ------
    BadInputError
        If a count is negative.
    """
    if gained < 0 or lost < 0:
        raise BadInputError(f"{gained} gained and {lost} lost pairs: count them again")
    discordant = gained + lost
    at_least = float(bdtrc(gained - 1, discordant, 0.5))
    # Half of the observed outcome: the mean with and without it.
    return (at_least + float(bdtrc(gained, discordant, 0.5))) / 2.0 if mid_p else at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Second proportion less first, on the same scans, with Tango's score interval."""

    #: scans on which only the second is right, by weight
    gained: float
    #: scans on which only the first is right
    lost: float
    #: scans on which the first is right
    first_right: float
    scans: int
    patients: int
    weighted: bool
    design_effect: float
    interval: Interval

    @property
    def estimate(self) -> float:
        return (self.gained - self.lost) / self.scans

    @property
    def first(self) -> float:
        return self.first_right / self.scans

    @property
    def second(self) -> float:
        return (self.first_right + self.gained - self.lost) / self.scans

    def p_greater(self, than: float) -> float:
        """Return the one-sided score p-value against "the difference is at most `than`"."""
        return float(ndtr(-self._score(than)))

    def p_superior(self) -> float:
        """Return the one-sided p-value against "the second is right no more often".

        McNemar's mid-p with one scan per patient and equal weights. Otherwise the score test
        on effective counts, which is that of Obuchowski (1998), Statistics in Medicine
        17:1495-1507, but for the mean that its variance is taken about.
        """
        if self.patients == self.scans and not self.weighted:
            return mcnemar_p_greater(int(self.gained), int(self.lost), mid_p=True)
        return self.p_greater(0.0)

    def _score(self, difference: float) -> float:
        return tango_score(
            self.gained / self.design_effect,
            self.lost / self.design_effect,
            self.scans / self.design_effect,
            difference=difference,
        )


def paired_difference(
    first_right: npt.ArrayLike,
    second_right: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> PairedDifference:
    """Compare how often two models are right on the same scans.

    Parameters
    ----------
    first_right, second_right : booleans or 0 and 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the interval

    Raises
    ------
    InsufficientDataError
        If there is no scan.
    BadInputError
        If the two do not have the same length.
    """
    one, two = checked_truth(first_right), checked_truth(second_right)
    scans = len(one)
    if len(two) != scans:
        raise BadInputError(f"{scans} and {len(two)} scans: pairs need the same ones twice")
    if scans == 0:
        raise InsufficientDataError(what="pairs for a difference", needed=1, got=0)
    groups = checked_patients(patients, scans=scans)
    weighing = checked_weights(weights, scans=scans)
    gained, lost = counted(two & ~one, weighing), counted(one & ~two, weighing)
    change = two.astype(np.float64) - one
    effect = design_effect(change - (gained - lost) / scans, groups, weighing)
    return PairedDifference(
        gained=gained,
        lost=lost,
        first_right=counted(one, weighing),
        scans=scans,
        patients=groups.count,
        weighted=weighing is not None,
        design_effect=effect,
        interval=tango_interval(gained / effect, lost / effect, scans / effect, level=level),
    )
