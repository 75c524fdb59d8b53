import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from monitor.statistics.performance.discrimination import estimate_auc
from monitor.statistics.performance.independent_differences import (
    IndependentDifference,
    independent_difference,
)
from monitor.statistics.performance.proportions import Proportion, proportion

counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def _share(successes: int, scans: int) -> Proportion:
    return proportion(np.arange(scans) < successes, level=0.95)


def test_independent_proportions_give_the_published_interval() -> None:
    # Newcombe (1998), Statistics in Medicine 17:873-890, table II, example (a), method 10.
    found = independent_difference(_share(48, 80), _share(56, 70), level=0.95).interval
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


@settings(max_examples=50)
@given(first=counts, second=counts)
def test_independent_proportions_agree_with_statsmodels(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    found = independent_difference(_share(*first), _share(*second), level=0.9).interval
    expected = confint_proportions_2indep(*second, *first, method="newcomb", alpha=0.1)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50)
@given(first=counts, second=counts, than=st.floats(-0.5, 0.5))
def test_the_p_value_and_the_interval_agree_and_directions_add_up(
    first: tuple[int, int], second: tuple[int, int], than: float
) -> None:
    there: IndependentDifference = independent_difference(
        _share(*first), _share(*second), level=0.9
    )
    back = independent_difference(_share(*second), _share(*first), level=0.9)
    assert there.estimate in there.interval
    p_value = there.p_greater(than)
    if abs(p_value - 0.05) > 1e-6:
        assert (p_value < 0.05) == (there.interval.low > than)
    assert p_value + back.p_greater(-than) == pytest.approx(1.0, abs=1e-6)


def test_an_area_that_fell_on_other_scans_is_shown_to_have_fallen() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(400) < 200
    clear = estimate_auc(rng.normal(size=400) + 2.5 * truth, truth, level=0.95)
    blurred = estimate_auc(rng.normal(size=400) + 1.0 * truth, truth, level=0.95)
    found = independent_difference(clear, blurred, level=0.95)
    assert found.interval.high < 0.0
    variance = clear.standard_error**2 + blurred.standard_error**2
    width = found.interval.high - found.interval.low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.05)


def test_the_non_inferiority_of_an_independent_equal_is_wrong_at_most_at_alpha() -> None:
    rng = np.random.default_rng(2)
    passed = 0
    for _ in range(1000):
        # Truly worse by exactly the margin.
        reference, drifted = rng.binomial(365, 0.93), rng.binomial(219, 0.83)
        found = independent_difference(
            _share(int(reference), 365), _share(int(drifted), 219), level=0.9
        )
        passed += found.p_greater(-0.10) <= 0.05
    assert passed / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
