from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.patients import Patients
from monitor.statistics.recalibration import (
    LEAST_PATIENTS,
    REDRAWS,
    CalibratedReference,
    beta_coefficients,
    redrawn_window,
)
from registry.errors import BadInputError, InsufficientDataError


def readings(
    seed: int, scans: int = 300, *, slopes: tuple[float, float] = (0.6, 1.4)
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a champion that exaggerates, and the truth drawn from what they mean."""
    rng = np.random.default_rng(seed)
    scores = expit(1.6 * rng.normal(size=scans))
    meaning = expit(-0.4 + slopes[0] * np.log(scores) - slopes[1] * np.log1p(-scores))
    return scores, rng.random(scans) < meaning


def drawn_in(truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Platt's targets, written out."""
    sick, well = weights[truth].sum(), weights[~truth].sum()
    return np.where(truth, (sick + 1) / (sick + 2), 1 / (well + 2))


def constrained_optimum(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    features = np.stack([np.ones_like(scores), np.log(scores), -np.log1p(-scores)], axis=1)
    targets = drawn_in(truth, weights)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        line = features @ coefficients
        value = np.sum(weights * (np.logaddexp(0, line) - targets * line))
        return float(value), features.T @ (weights * (expit(line) - targets))

    found = minimize(
        loss,
        np.array([0.0, 1.0, 1.0]),
        jac=True,
        bounds=[(None, None), (0, None), (0, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000},
    )
    return np.asarray(found.x)


@pytest.mark.parametrize("slopes", [(0.6, 1.4), (1.0, 1.0), (-0.8, 2.0), (2.0, -0.8)])
def test_coefficients_are_the_constrained_optimum_under_each_weighting(
    slopes: tuple[float, float],
) -> None:
    scores, truth = readings(0, slopes=slopes)
    weights = np.random.default_rng(1).poisson(1.0, size=(4, 300)).astype(float)
    found = beta_coefficients(scores, truth, weights)
    for row, expected in zip(
        found, [constrained_optimum(scores, truth, one) for one in weights], strict=True
    ):
        assert row == pytest.approx(expected, abs=2e-4)
    if slopes[0] < 0.0:
        assert (found[:, 1] == 0.0).all()


def test_coefficients_agree_with_scikit_learn() -> None:
    scores, truth = readings(2)
    targets = drawn_in(truth, np.ones(300))
    features = np.stack([np.log(scores), -np.log1p(-scores)], axis=1)
    # A target between 0 and 1 is a scan of both classes, each with its part of the weight.
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], 300),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    found = beta_coefficients(scores, truth, np.ones((1, 300)))[0]
    assert found == pytest.approx([*oracle.intercept_, *oracle.coef_[0]], abs=1e-4)


def test_what_scores_mean_is_found() -> None:
    scores, truth = readings(3, scans=5000)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    grid = np.linspace(0.05, 0.95, 19)
    meaning = expit(-0.4 + 0.6 * np.log(grid) - 1.4 * np.log1p(-grid))
    assert reference.probabilities(grid) == pytest.approx(meaning, abs=0.04)
    spread = reference.redrawn_probabilities(grid).std(axis=0)
    assert reference.redrawn_probabilities(grid).shape == (REDRAWS, 19)
    assert (np.abs(reference.probabilities(grid) - meaning) < 4 * spread).all()


def test_each_redraw_is_a_fit_to_patients_drawn_anew() -> None:
    scores, truth = readings(4)
    patients = np.arange(300) // 2
    reference = CalibratedReference.fit(scores, truth, patients, seed=7)
    weights = reference.redrawn_weights()
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    for number in (0, 60, REDRAWS - 1):
        expected = constrained_optimum(scores, truth, weights[number])
        assert reference.redrawn[number] == pytest.approx(expected, abs=2e-4)


def test_reference_and_window_are_drawn_anew_independently() -> None:
    patients = Patients.of(None, scans=50)
    window = redrawn_window(patients, seed=3)
    for seed in (3, 6, 7):
        drawn = np.stack(list(resampled_weights(patients, resamples=REDRAWS, seed=2 * seed)))
        assert not np.array_equal(window, drawn)
    assert (window.sum(axis=1) == 50).all()


def test_a_held_out_probability_does_not_know_its_own_patient() -> None:
    scores, truth = readings(5)
    patients = np.arange(300) // 3
    reference = CalibratedReference.fit(scores, truth, patients, seed=0)
    other = truth.copy()
    other[30:33] = ~other[30:33]
    changed = CalibratedReference.fit(scores, other, patients, seed=0)
    assert changed.held_out[30:33] == pytest.approx(reference.held_out[30:33], rel=1e-9)
    assert np.abs(changed.held_out - reference.held_out).max() > 1e-5


def test_scores_that_separate_the_classes_have_a_calibration() -> None:
    truth = np.arange(100) < 50
    scores = np.where(truth, 0.9, 0.1) + np.linspace(-0.05, 0.05, 100)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    assert np.isfinite(reference.redrawn).all()
    low, high = reference.probabilities(np.array([0.1, 0.9]))
    assert low < 0.06
    assert high > 0.94


def test_saturated_scores_are_no_certainty() -> None:
    scores, truth = readings(6)
    scores[:5], scores[5:10] = 0.0, 1.0
    reference = CalibratedReference.fit(scores, truth, seed=0)
    meaning = reference.probabilities(np.array([0.0, 1.0]))
    assert ((meaning > 0.0) & (meaning < 1.0)).all()


def test_of_a_large_reference_whole_patients_are_taken() -> None:
    scores, truth = readings(7, scans=12_000)
    patients = np.arange(12_000) // 4
    reference = CalibratedReference.fit(scores, truth, patients, seed=0)
    assert 4000 < len(reference.scores) <= 5000
    assert (reference.patients.scans == 4).all()


def test_too_few_patients_of_a_class_are_refused_by_name() -> None:
    scores = np.linspace(0.1, 0.9, 100)
    truth = np.arange(100) >= 50
    patients = np.where(truth, np.arange(100) % (LEAST_PATIENTS - 1), np.arange(100))
    with pytest.raises(
        InsufficientDataError, match="with the finding: need at least 20, got 1"
    ):
        CalibratedReference.fit(scores, truth, patients, seed=0)


def test_scores_that_fall_with_the_finding_are_refused() -> None:
    scores, truth = readings(9)
    with pytest.raises(InsufficientDataError, match="rise with the finding"):
        CalibratedReference.fit(1.0 - scores, truth, seed=0)


def test_logits_are_refused() -> None:
    scores, truth = readings(10)
    with pytest.raises(BadInputError, match="not logits"):
        CalibratedReference.fit(5 * scores, truth, seed=0)
