from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from monitor.statistics.performance.paired_proportions import (
    mcnemar_p_greater,
    paired_difference,
    tango_interval,
    tango_score,
)
from registry.errors import BadInputError, InsufficientDataError

tables = st.integers(1, 300).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(
        lambda t: t[0] + t[1] <= t[2]
    )
)


def _score_from_the_likelihood(gained: int, lost: int, pairs: int, difference: float) -> float:
    """Tango's statistic with its nuisance parameter found by maximising the likelihood."""

    def negative(losing: float) -> float:
        cells = np.array([losing + difference, losing, 1 - 2 * losing - difference])
        counts = np.array([gained, lost, pairs - gained - lost])
        return -float(counts[counts > 0] @ np.log(np.maximum(cells[counts > 0], 1e-300)))

    low, high = max(0.0, -difference), (1 - difference) / 2
    losing = minimize_scalar(
        negative, bounds=(low, high), options={"xatol": 1e-12}, method="bounded"
    ).x
    variance = pairs * (2 * losing + difference - difference**2)
    return (gained - lost - pairs * difference) / np.sqrt(variance)


@pytest.mark.parametrize(
    ("table", "difference"),
    list(
        product([(7, 3, 40), (12, 25, 80), (5, 5, 11), (30, 2, 200)], [-0.3, -0.05, 0.02, 0.4])
    ),
)
def test_tango_score_uses_the_likeliest_nuisance_parameter(
    table: tuple[int, int, int], difference: float
) -> None:
    assert tango_score(*table, difference=difference) == pytest.approx(
        _score_from_the_likelihood(*table, difference), rel=1e-5
    )


def test_tango_score_at_no_difference_is_mcnemars() -> None:
    expected = mcnemar([[50, 4], [15, 31]], exact=False, correction=False).statistic
    assert tango_score(15, 4, 100, difference=0.0) ** 2 == pytest.approx(expected)


def test_tango_interval_gives_the_published_one() -> None:
    # Fagerland, Lydersen, Laake (2014), Statistics in Medicine 33:2850-2875: airway
    # hyper-responsiveness before and after transplantation, 1 and 7 discordant of 21.
    interval = tango_interval(1, 7, 21, level=0.95)
    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.517, -0.026)


@given(table=tables, level=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_tango_interval_holds_the_estimate_mirrors_and_is_what_the_score_keeps(
    table: tuple[int, int, int], level: float
) -> None:
    gained, lost, pairs = table
    interval = tango_interval(gained, lost, pairs, level=level)
    assert (gained - lost) / pairs in interval
    assert -1.0 <= interval.low < interval.high <= 1.0
    mirrored = tango_interval(lost, gained, pairs, level=level)
    assert mirrored.low == pytest.approx(-interval.high, abs=1e-9)
    z = norm.isf((1 - level) / 2)
    if interval.low > -1.0:
        assert tango_score(*table, difference=interval.low) == pytest.approx(z, abs=1e-4)


def test_without_a_discordant_pair_the_interval_shrinks_as_one_over_n() -> None:
    z2 = norm.isf(0.025) ** 2
    interval = tango_interval(0, 0, 44, level=0.95)
    assert (interval.low, interval.high) == pytest.approx((-z2 / (44 + z2), z2 / (44 + z2)))


@given(gained=st.integers(0, 60), lost=st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(gained: int, lost: int) -> None:
    assume(gained != lost)
    two_sided = mcnemar([[10, lost], [gained, 10]], exact=True).pvalue
    smaller = min(
        mcnemar_p_greater(gained, lost, mid_p=False),
        mcnemar_p_greater(lost, gained, mid_p=False),
    )
    assert 2 * smaller == pytest.approx(two_sided)


@given(gained=st.integers(0, 60), lost=st.integers(0, 60))
def test_mid_p_values_of_both_directions_add_up_to_1(gained: int, lost: int) -> None:
    both = [mcnemar_p_greater(*pair, mid_p=True) for pair in ((gained, lost), (lost, gained))]
    assert sum(both) == pytest.approx(1.0)


def test_a_paired_difference_counts_who_is_right_where() -> None:
    found = paired_difference([1, 1, 0, 0, 1], [1, 0, 1, 1, 1], level=0.95)
    assert (found.gained, found.lost, found.first, found.second) == (2, 1, 0.6, 0.8)
    assert found.estimate == pytest.approx(0.2)
    assert found.design_effect == 1.0
    assert found.p_superior() == pytest.approx(mcnemar_p_greater(2, 1, mid_p=True))


def test_p_values_and_intervals_agree_about_a_margin() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        first, second = rng.random(90) < 0.8, rng.random(90) < 0.8
        found = paired_difference(first, second, level=0.9)
        for margin in (-0.1, 0.0, 0.05):
            assert (found.p_greater(margin) < 0.05) == (found.interval.low > margin)


def _clustered_errors(rng: np.random.Generator, patients: np.ndarray) -> np.ndarray:
    """Whether each scan is read right: equally often by both, alike within a patient."""
    count = patients.max() + 1
    hard = rng.normal(size=count)
    taste = rng.normal(size=(2, count))
    latent = hard[patients] + taste[:, patients] + 0.5 * rng.normal(size=(2, len(patients)))
    return latent > -1.2


def test_superiority_of_equals_is_claimed_too_often_only_when_patients_are_ignored() -> None:
    rng = np.random.default_rng(11)
    patients = np.repeat(np.arange(80), rng.integers(1, 7, size=80))
    claims, naive = 0, 0
    for _ in range(600):
        first, second = _clustered_errors(rng, patients)
        claims += paired_difference(first, second, patients, level=0.95).p_superior() <= 0.05
        naive += paired_difference(first, second, level=0.95).p_superior() <= 0.05
    # 5 % and three binomial standard errors of 600 simulations.
    assert claims / 600 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert naive / 600 > 0.10


def test_no_pairs_are_too_few_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(InsufficientDataError):
        paired_difference([], [], level=0.95)
    with pytest.raises(BadInputError, match="2 and 1 scans"):
        paired_difference([0, 1], [1], level=0.95)
    with pytest.raises(BadInputError, match="count again"):
        tango_interval(3, 3, 5, level=0.95)
    with pytest.raises(BadInputError, match="count them again"):
        mcnemar_p_greater(-1, 2, mid_p=True)
