from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from monitor.statistics.exact import classifier_two_sample
from monitor.statistics.exact.classifier_two_sample import (
    classifier_test,
    folds_by_patient,
    held_out_areas,
)
from monitor.statistics.exact.splits import permuted_splits
from registry.errors import BadInputError


def two_groups(
    before: int, after: int, *, dimension: int = 5, shift: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(before, dimension)), rng.normal(size=(after, dimension)) + shift


def fishers_areas(
    scans: np.ndarray, inside: np.ndarray, fold: np.ndarray, *, ridge: float
) -> float:
    """Fit Fisher's discriminant with the covariance inside the groups, and rank by it."""
    spread = ((scans - scans.mean(axis=0)) ** 2).sum(axis=1).mean() / scans.shape[1]
    areas = []
    for k in range(fold.max() + 1):
        training, label = scans[fold != k], inside[fold != k]
        means = [training[label == group].mean(axis=0) for group in (True, False)]
        residuals = np.where(label[:, None], training - means[0], training - means[1])
        covariance = residuals.T @ residuals / len(training)
        covariance += ridge * spread * np.eye(scans.shape[1])
        direction = np.linalg.solve(covariance, means[0] - means[1])
        areas.append(roc_auc_score(inside[fold == k], scans[fold == k] @ direction))
    return float(np.mean(areas))


@pytest.mark.parametrize("ridge", [0.001, 0.1, 10.0])
def test_every_permutation_refits_fishers_discriminant(ridge: float) -> None:
    rng = np.random.default_rng(1)
    scans = (rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)) + 4.0).astype(np.float32)
    window = np.arange(60) < 20
    fold = folds_by_patient(window, rng=rng)
    splits = permuted_splits(window, permutations=15, rng=rng, stratum=fold)
    found = held_out_areas(scans, splits, fold, ridge=ridge)
    expected = [
        fishers_areas(scans.astype(np.float64), column, fold, ridge=ridge)
        for column in splits.T
    ]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("before", "after", "folds"), [(40, 23, 5), (3, 30, 3), (2, 2, 2)])
def test_both_groups_are_in_every_fold(before: int, after: int, folds: int) -> None:
    window = np.arange(before + after) >= before
    fold = folds_by_patient(window, rng=np.random.default_rng(2))
    for group in (window, ~window):
        assert np.bincount(fold[group], minlength=folds).min() >= 1
        assert fold[group].max() == folds - 1


def test_p_values_are_uniform_without_a_shift_and_small_with_one() -> None:
    p_values = np.array(
        [
            classifier_test(*two_groups(14, 9, seed=seed), permutations=19, seed=seed).p_value
            for seed in range(300)
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        low, high = binom.interval(0.999, 300, level)
        assert low <= np.count_nonzero(p_values <= level + 1e-12) <= high
    for seed in range(10):
        found = classifier_test(*two_groups(60, 30, shift=1.0, seed=seed), permutations=99)
        assert found.p_value == 0.01
        assert found.statistic > 0.75


def test_permuting_patients_holds_the_level_where_permuting_scans_rejects() -> None:
    rng = np.random.default_rng(12)
    by_patient, by_scan = [], []
    for seed in range(200):
        scans_of = rng.integers(1, 9, size=24)
        own = np.repeat(rng.normal(size=(24, 3)), scans_of, axis=0)
        names = np.repeat(np.arange(24), scans_of)
        scans = own + 0.3 * rng.normal(size=own.shape)
        before = names < 16
        by_patient.append(
            classifier_test(
                scans[before],
                scans[~before],
                reference_patients=names[before],
                window_patients=names[~before],
                permutations=19,
                seed=seed,
            ).p_value
        )
        by_scan.append(
            classifier_test(scans[before], scans[~before], permutations=19, seed=seed).p_value
        )
    low, high = binom.interval(0.999, 200, 0.05)
    assert low <= np.count_nonzero(np.array(by_patient) <= 0.05) <= high
    assert np.mean(np.array(by_scan) <= 0.05) > 0.4


def test_more_dimensions_than_scans_and_a_constant_coordinate_are_no_obstacle() -> None:
    reference, window = two_groups(20, 10, dimension=50, shift=1.0)
    reference[:, 3] = window[:, 3] = 7.0
    assert classifier_test(reference, window, permutations=99).p_value <= 0.02


def test_units_do_not_matter_and_results_repeat_by_seed() -> None:
    groups = two_groups(50, 20, shift=0.3)
    found = classifier_test(*groups, seed=1)
    assert classifier_test(*groups, seed=1) == found
    assert classifier_test(*(1024.0 * group for group in groups), seed=1) == found
    assert classifier_test(*groups, seed=2).statistic != found.statistic


def test_bits_do_not_depend_on_the_threads_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    # Areas hide the last bits of the scores that they rank, so look at the scores.
    seen: list[bytes] = []
    areas_of = classifier_two_sample._areas

    def watched(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
        seen.append(scores.tobytes())
        return areas_of(scores, inside)

    monkeypatch.setattr(classifier_two_sample, "_areas", watched)
    groups = two_groups(600, 200, dimension=300, shift=0.02)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(limits=threads, user_api="blas"):
            found.append(classifier_test(*groups, permutations=49))
    assert found[0] == found[1] == found[2]
    assert len(seen) == 15
    assert seen[:5] == seen[5:10] == seen[10:]


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ridge_that_is_none_is_refused(ridge: float) -> None:
    with pytest.raises(BadInputError, match="ridge"):
        classifier_test(*two_groups(6, 5), ridge=ridge)
