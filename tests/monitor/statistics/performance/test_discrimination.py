from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from monitor.statistics.performance.discrimination import (
    auc,
    bootstrap_auc_difference,
    compare_aucs,
    estimate_auc,
)
from monitor.statistics.performance.paired_proportions import tango_interval
from monitor.statistics.performance.proportions import wilson
from registry.errors import BadInputError, InsufficientDataError


def _tied_scores(seed: int, positives: int = 23, negatives: int = 17) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(positives + negatives) < positives)
    first = np.round(rng.normal(size=len(truth)) + truth, 1)
    second = np.round(0.5 * first + rng.normal(size=len(truth)) + truth, 1)
    return truth, first, second


def _kernel(above: float, below: float) -> float:
    return 1.0 if above > below else 0.5 if above == below else 0.0


def _delong_covariance(truth: np.ndarray, *models: np.ndarray) -> np.ndarray:
    """DeLong et al. (1988), eq. 4 to 6, as printed: structural components by double sums."""
    rising = [[m[i] for i in np.flatnonzero(truth)] for m in models]
    falling = [[m[i] for i in np.flatnonzero(~truth)] for m in models]
    v10 = [
        [np.mean([_kernel(x, y) for y in f]) for x in r]
        for r, f in zip(rising, falling, strict=True)
    ]
    v01 = [
        [np.mean([_kernel(x, y) for x in r]) for y in f]
        for r, f in zip(rising, falling, strict=True)
    ]
    return np.cov(v10) / truth.sum() + np.cov(v01) / (~truth).sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_concordant_pairs(seed: int) -> None:
    truth, scores, _ = _tied_scores(seed)
    rising, falling = scores[truth], scores[~truth]
    expected = np.mean([_kernel(x, y) for x, y in product(rising, falling)])
    assert auc(scores, truth) == pytest.approx(expected, abs=1e-15)
    assert auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    u = mannwhitneyu(rising, falling).statistic
    assert auc(scores, truth) == pytest.approx(u / (len(rising) * len(falling)))


@pytest.mark.parametrize("seed", range(5))
def test_variances_are_delongs_double_sums(seed: int) -> None:
    truth, first, second = _tied_scores(seed)
    covariance = _delong_covariance(truth, first, second)
    area = estimate_auc(first, truth, level=0.95)
    assert area.standard_error**2 == pytest.approx(covariance[0, 0], rel=1e-12)
    found = compare_aucs(first, second, truth, level=0.95)
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.standard_error**2 == pytest.approx(expected, rel=1e-12)
    assert found.estimate == pytest.approx(auc(second, truth) - auc(first, truth))
    assert found.p_greater(0.0) == pytest.approx(norm.sf(found.estimate / expected**0.5))


def test_clustered_variances_are_obuchowskis_sums_by_patient() -> None:
    truth, scores, _ = _tied_scores(3)
    patients = np.arange(40) // 3
    rising, falling = np.flatnonzero(truth), np.flatnonzero(~truth)
    area = auc(scores, truth)
    v10 = {i: np.mean([_kernel(scores[i], scores[j]) for j in falling]) for i in rising}
    v01 = {j: np.mean([_kernel(scores[i], scores[j]) for i in rising]) for j in falling}
    s10 = s01 = s11 = 0.0
    i10, i01 = len(set(patients[rising])), len(set(patients[falling]))
    for patient in set(patients):
        mine = [v10[i] - area for i in rising if patients[i] == patient]
        other = [v01[j] - area for j in falling if patients[j] == patient]
        s10 += sum(mine) ** 2
        s01 += sum(other) ** 2
        s11 += sum(mine) * sum(other)
    m, k, all_patients = len(rising), len(falling), len(set(patients))
    s10 *= i10 / ((i10 - 1) * m)
    s01 *= i01 / ((i01 - 1) * k)
    s11 *= all_patients / (all_patients - 1)
    expected = s10 / m + s01 / k + 2 * s11 / (m * k)
    found = estimate_auc(scores, truth, patients, level=0.95)
    assert found.standard_error**2 == pytest.approx(expected, rel=1e-12)


def test_doubling_every_scan_changes_nothing_but_the_counts_when_patients_are_known() -> None:
    truth, first, second = _tied_scores(1)
    patients = np.arange(len(truth))
    once = compare_aucs(first, second, truth, patients, level=0.95)
    twice = compare_aucs(
        np.tile(first, 2),
        np.tile(second, 2),
        np.tile(truth, 2),
        np.tile(patients, 2),
        level=0.95,
    )
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-12)
    assert twice.patients == once.patients


@settings(max_examples=50)
@given(
    scores=arrays(np.float64, 30, elements=st.integers(-3, 3).map(float)),
    positives=st.integers(2, 28),
    level=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_intervals_of_areas_hold_the_estimate_within_0_and_1_and_mirror(
    scores: np.ndarray, positives: int, level: float
) -> None:
    truth = np.arange(30) < positives
    found = estimate_auc(scores, truth, level=level)
    assert found.estimate in found.interval
    assert found.interval.low >= 0.0
    assert found.interval.high <= 1.0
    mirrored = estimate_auc(-scores, truth, level=level)
    assert mirrored.estimate == pytest.approx(1 - found.estimate)
    assert mirrored.interval.low == pytest.approx(1 - found.interval.high, abs=1e-9)


@settings(max_examples=50)
@given(
    first=arrays(np.float64, 24, elements=st.integers(-3, 3).map(float)),
    second=arrays(np.float64, 24, elements=st.integers(-3, 3).map(float)),
    positives=st.integers(2, 22),
)
def test_comparisons_hold_the_estimate_and_are_antisymmetric(
    first: np.ndarray, second: np.ndarray, positives: int
) -> None:
    truth = np.arange(24) < positives
    there = compare_aucs(first, second, truth, level=0.95)
    back = compare_aucs(second, first, truth, level=0.95)
    assert there.estimate in there.interval
    assert there.estimate == pytest.approx(-back.estimate, abs=1e-12)
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-9)
    assert there.p_greater(0.1) + back.p_greater(-0.1) == pytest.approx(1.0)


def test_the_interval_of_an_area_covers_at_its_level() -> None:
    rng = np.random.default_rng(8)
    truth = np.arange(90) < 60
    true_area = norm.cdf(1.5 / np.sqrt(2))
    covered = sum(
        true_area in estimate_auc(rng.normal(size=90) + 1.5 * truth, truth, level=0.9).interval
        for _ in range(600)
    )
    assert abs(covered / 600 - 0.9) <= 3 * np.sqrt(0.09 / 600) + 0.01


@pytest.mark.parametrize("scans_of_a_patient", [1, 4])
def test_a_comparison_of_equals_rejects_at_its_level(scans_of_a_patient: int) -> None:
    rng = np.random.default_rng(21)
    count = 60
    patients = np.repeat(np.arange(count), scans_of_a_patient)
    truth = rng.random(len(patients)) < 0.6
    rejected = 0
    for _ in range(400):
        shared = rng.normal(size=count)[patients] + 1.2 * truth
        own = rng.normal(size=(2, count))[:, patients]
        first, second = shared + own + 0.5 * rng.normal(size=(2, len(patients)))
        found = compare_aucs(first, second, truth, patients, level=0.95)
        rejected += found.p_greater(0.0) <= 0.05
    assert rejected / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert rejected / 400 >= 0.02


@pytest.mark.parametrize("scans_of_a_patient", [1, 3])
def test_the_bootstrap_by_patient_agrees_with_the_formula(scans_of_a_patient: int) -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(120), scans_of_a_patient)
    truth = rng.random(len(patients)) < 0.6
    shared = rng.normal(size=120)[patients] + 1.3 * truth
    first, second = shared + rng.normal(size=(2, 120))[:, patients] * [[0.8], [0.6]]
    formula = compare_aucs(first, second, truth, patients, level=0.95).interval
    drawn = bootstrap_auc_difference(
        first, second, truth, patients, level=0.95, resamples=1000, seed=0
    )
    width = formula.high - formula.low
    assert drawn.high - drawn.low == pytest.approx(width, rel=0.15)
    assert drawn.low == pytest.approx(formula.low, abs=0.15 * width)
    again = bootstrap_auc_difference(
        first, second, truth, patients, level=0.95, resamples=1000, seed=0
    )
    assert again == drawn


def test_a_perfect_area_has_wilsons_interval_on_disjoint_pairs() -> None:
    scores, truth = np.arange(50.0), np.arange(50) >= 20
    found = estimate_auc(scores, truth, level=0.95)
    assert found.estimate == 1.0
    assert found.standard_error == 0.0
    assert found.interval == wilson(20, 20, level=0.95)


def test_two_perfect_models_are_not_known_to_be_equal() -> None:
    scores, truth = np.arange(50.0), np.arange(50) >= 20
    found = compare_aucs(scores, np.exp(scores), truth, level=0.9)
    assert found.estimate == 0.0
    expected = tango_interval(0, 0, 20, level=0.9)
    assert (found.interval.low, found.interval.high) == (expected.low, expected.high)
    assert found.p_greater(0.0) == 0.5
    assert (found.p_greater(-0.10) <= 0.05) == (found.interval.low > -0.10)


def test_scores_that_are_all_the_same_have_area_one_half() -> None:
    found = estimate_auc(np.zeros(10), np.arange(10) < 5, level=0.95)
    assert found.estimate == 0.5
    assert found.interval == wilson(2.5, 5, level=0.95)


def test_missing_classes_lonely_patients_and_nan_are_refused() -> None:
    with pytest.raises(InsufficientDataError, match="without the finding"):
        auc([0.1, 0.2], [1, 1])
    with pytest.raises(InsufficientDataError, match="with the finding"):
        auc([0.1, 0.2], [0, 0])
    with pytest.raises(InsufficientDataError, match="patients with scans with the finding"):
        estimate_auc([0.1, 0.2, 0.3, 0.4], [1, 1, 0, 0], ["a", "a", "b", "c"], level=0.95)
    with pytest.raises(BadInputError, match="NaN"):
        auc([np.nan, 0.2], [0, 1])
    with pytest.raises(InsufficientDataError, match="hold both classes"):
        bootstrap_auc_difference(
            [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [1, 0, 0], level=0.95, resamples=200, seed=0
        )
