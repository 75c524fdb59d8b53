"""The power of the tests that compare two models on the same scans, exactly.

Of n pairs the discordant ones are binomial, and so is how many of them the second model gained:
every outcome is put to the test that will decide (`tango_score`, McNemar's mid-p), and the
chances of those that pass are added up. No normal approximation: for 314 pairs, a margin of 5
points and 10 % discordant ones the usual formula promises a power of .80, and the test has .763.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.stats import binom

from monitor.statistics.performance.paired_proportions import mcnemar_p_greater, tango_score
from monitor.statistics.performance.proportions import quantile_of
from registry.errors import BadInputError

#: Whether so many gained, and so many lost pairs pass.
_Passes: TypeAlias = Callable[[int, int], bool]

#: Discordant counts beyond these quantiles are left out of the sum.
_NEGLIGIBLE = 1e-9


def non_inferiority_power(
    pairs: int, *, margin: float, discordant: float, alpha: float, difference: float = 0.0
) -> float:
    """Return the chance that Tango's score shows "worse by less than the margin".

    Parameters
    ----------
    pairs : independent ones, for instance patients with the finding
    margin : as a fraction, above 0
    discordant : chance that exactly one of the two is right
    alpha : one-sided
    difference : true chance to gain less that to lose

    Raises
    ------
    BadInputError
        If the difference is larger than the discordant share.

    >>> round(non_inferiority_power(314, margin=0.05, discordant=0.1, alpha=0.025), 3)
    0.763
    """
    _check(pairs, discordant, difference, alpha)
    z = quantile_of(1.0 - 2.0 * alpha)

    def passes(gained: int, lost: int) -> bool:
        return tango_score(gained, lost, pairs, difference=-margin) >= z

    return _power(passes, pairs, discordant, difference)


def superiority_power(
    pairs: int, *, difference: float, discordant: float, alpha: float, weighted: bool = False
) -> float:
    """Return the chance that "better" is shown: by McNemar's mid-p, or its score if weighted.

    Parameters
    ----------
    difference : true chance to gain less that to lose
    weighted : the labels have unequal chances, whose pairs are no counts

    Raises
    ------
    BadInputError
        If the difference is larger than the discordant share.
    """
    _check(pairs, discordant, difference, alpha)
    z = quantile_of(1.0 - 2.0 * alpha)

    def passes(gained: int, lost: int) -> bool:
        if weighted:
            return tango_score(gained, lost, pairs, difference=0.0) >= z
        return mcnemar_p_greater(gained, lost, mid_p=True) <= alpha

    return _power(passes, pairs, discordant, difference)


def _check(pairs: int, discordant: float, difference: float, alpha: float) -> None:
    if pairs < 0 or not abs(difference) <= discordant <= 1.0 or not 0.0 < alpha < 0.5:
        raise BadInputError(
            f"{pairs} pairs, {discordant:g} of them discordant, a difference of {difference:g} "
            f"and alpha {alpha:g}: the difference must not exceed the discordant share, nor "
            "alpha one half"
        )


def _power(passes: _Passes, pairs: int, discordant: float, difference: float) -> float:
    if pairs == 0:
        return 0.0
    low = int(binom.ppf(_NEGLIGIBLE, pairs, discordant))
    high = int(binom.isf(_NEGLIGIBLE, pairs, discordant))
    gaining = 0.5 if discordant == 0.0 else (discordant + difference) / (2.0 * discordant)
    counts = np.arange(max(0, low), min(pairs, high) + 1)
    least = np.array(_least_gained(passes, [int(count) for count in counts]))
    shown = binom.sf(least - 1, counts, gaining)
    return float(np.sum(binom.pmf(counts, pairs, discordant) * shown))


def _least_gained(passes: _Passes, discordant: list[int]) -> list[int]:
    """Return how many of so many discordant pairs must be gained; one more than all if none do.

    Parameters
    ----------
    discordant : counts that rise by one

    The first is looked for. One more discordant pair takes as many gained ones, or one more: a
    lost pair more never helps, and a gained one more never harms.
    """
    low, high = 0, discordant[0] + 1
    while low < high:
        middle = (low + high) // 2
        if passes(middle, discordant[0] - middle):
            high = middle
        else:
            low = middle + 1
    found = [low]
    for count in discordant[1:]:
        last = found[-1]
        found.append(last if last <= count and passes(last, count - last) else last + 1)
    return found
