from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from monitor.statistics.performance.beta_calibration import beta_coefficients


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
    scores: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    *,
    places: np.ndarray | None = None,
    penalty: float = 0.0,
) -> np.ndarray:
    """Minimise the penalised loss by L-BFGS-B, within bounds."""
    features = np.stack([np.ones_like(scores), np.log(scores), -np.log1p(-scores)], axis=1)
    if places is not None:
        features = np.concatenate([features, places], axis=1)
    free = features.shape[1] - 3
    targets = drawn_in(truth, weights)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        line = features @ coefficients
        value = np.sum(weights * (np.logaddexp(0, line) - targets * line))
        slope = features.T @ (weights * (expit(line) - targets))
        slope[3:] += penalty * coefficients[3:]
        return float(value + penalty / 2 * np.sum(coefficients[3:] ** 2)), slope

    found = minimize(
        loss,
        np.array([0.0, 1.0, 1.0, *[0.0] * free]),
        jac=True,
        bounds=[(None, None), (0, None), (0, None), *[(None, None)] * free],
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


@pytest.mark.parametrize("slopes", [(0.6, 1.4), (-0.8, 2.0)])
def test_coordinates_are_fitted_under_their_penalty(slopes: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    scores, truth = readings(3, slopes=slopes)
    places = rng.normal(size=(300, 4))
    weights = rng.poisson(1.0, size=(3, 300)).astype(float)
    found = beta_coefficients(scores, truth, weights, places=places, penalty=7.0)
    for row, one in zip(found, weights, strict=True):
        expected = constrained_optimum(scores, truth, one, places=places, penalty=7.0)
        assert row == pytest.approx(expected, abs=2e-4)


def test_scores_that_fall_with_the_finding_mean_nothing() -> None:
    scores, truth = readings(4)
    found = beta_coefficients(1.0 - scores, truth, np.ones((1, 300)))[0]
    assert found[1:].tolist() == [0.0, 0.0]
    sick = truth.sum()
    share = (sick * (sick + 1) / (sick + 2) + (300 - sick) / (300 - sick + 2)) / 300
    assert expit(found[0]) == pytest.approx(share)


def test_scores_that_separate_the_classes_have_finite_coefficients() -> None:
    truth = np.arange(100) < 50
    scores = np.where(truth, 0.9, 0.1) + np.linspace(-0.05, 0.05, 100)
    found = beta_coefficients(scores, truth, np.ones((2, 100)))
    assert np.isfinite(found).all()
