from __future__ import annotations

import math

import numpy as np
import pytest

from monitor.statistics.performance.paired_power import (
    _least_gained,
    non_inferiority_power,
    superiority_power,
)
from monitor.statistics.performance.paired_proportions import (
    mcnemar_p_greater,
    tango_interval,
    tango_score,
)
from monitor.statistics.performance.proportions import quantile_of
from registry.errors import BadInputError


def by_every_outcome(pairs: int, gain: float, loss: float, passes: object) -> float:
    """Add up the chances of all outcomes of a trinomial that pass."""
    total = 0.0
    for gained in range(pairs + 1):
        for lost in range(pairs + 1 - gained):
            if passes(gained, lost):  # type: ignore[operator]
                ways = math.comb(pairs, gained) * math.comb(pairs - gained, lost)
                rest = 1 - gain - loss
                total += ways * gain**gained * loss**lost * rest ** (pairs - gained - lost)
    return total


@pytest.mark.parametrize(("pairs", "margin", "difference"), [(17, 0.2, 0.0), (40, 0.1, -0.05)])
def test_non_inferiority_is_the_sum_over_all_outcomes(
    pairs: int, margin: float, difference: float
) -> None:
    def passes(gained: int, lost: int) -> bool:
        return tango_interval(gained, lost, pairs, level=0.9).low > -margin

    expected = by_every_outcome(pairs, 0.1 + difference / 2, 0.1 - difference / 2, passes)
    found = non_inferiority_power(
        pairs, margin=margin, discordant=0.2, alpha=0.05, difference=difference
    )
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_superiority_is_the_sum_over_all_outcomes(weighted: bool) -> None:
    def passes(gained: int, lost: int) -> bool:
        if weighted:
            return gained + lost > 0 and (gained - lost) / math.sqrt(gained + lost) > 1.959964
        return mcnemar_p_greater(gained, lost, mid_p=True) <= 0.025

    expected = by_every_outcome(30, 0.25, 0.05, passes)
    found = superiority_power(
        30, difference=0.2, discordant=0.3, alpha=0.025, weighted=weighted
    )
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("pairs", "power"), [(314, 0.763), (350, 0.813)])
def test_the_usual_formula_promises_more_than_the_test_keeps(pairs: int, power: float) -> None:
    found = non_inferiority_power(pairs, margin=0.05, discordant=0.1, alpha=0.025)
    assert found == pytest.approx(power, abs=5e-4)
    formula = (1.959964 + 0.841621) ** 2 * 0.1 / 0.05**2
    assert round(formula) == 314


def test_a_difference_of_the_margin_passes_about_as_often_as_alpha_says() -> None:
    found = [
        non_inferiority_power(n, margin=0.1, discordant=0.2, alpha=0.05, difference=-0.1)
        for n in (100, 300, 1000)
    ]
    assert np.allclose(found, 0.05, atol=0.012)


def test_without_pairs_nothing_is_shown() -> None:
    assert non_inferiority_power(0, margin=0.1, discordant=0.1, alpha=0.05) == 0.0


def test_a_gain_beyond_the_discordant_share_is_refused() -> None:
    with pytest.raises(BadInputError, match="must not exceed the discordant share"):
        superiority_power(100, difference=0.2, discordant=0.1, alpha=0.025)


@pytest.mark.parametrize("alpha", [0.2, 0.025, 0.001])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_fewest_gained_pairs_are_those_of_every_count_by_itself(
    alpha: float, margin: float
) -> None:
    z = quantile_of(1 - 2 * alpha)

    def passes(gained: int, lost: int) -> bool:
        if margin:
            return tango_score(gained, lost, 200, difference=-margin) >= z
        return mcnemar_p_greater(gained, lost, mid_p=True) <= alpha

    counts = list(range(3, 90))
    expected = [
        next((gained for gained in range(n + 1) if passes(gained, n - gained)), n + 1)
        for n in counts
    ]
    assert _least_gained(passes, counts) == expected
