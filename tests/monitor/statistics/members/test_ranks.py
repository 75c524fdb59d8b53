from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import interp1d
from scipy.stats import kstest, norm

from monitor.statistics.members.ranks import RANK_FEATURES, rank_features, ranks


def test_ranks_are_linear_between_the_reference_and_kept_off_the_ends() -> None:
    rng = np.random.default_rng(0)
    reference = np.sort(rng.normal(size=37))
    scores = np.r_[rng.normal(size=50), reference, -1e9, 1e9]
    between = interp1d(reference, np.arange(1, 38), bounds_error=False, fill_value=(1, 37))
    expected = between(scores) / 38
    assert ranks(scores, reference) == pytest.approx(expected, abs=1e-12)
    assert ranks(scores, reference).min() > 0
    assert ranks(scores, reference).max() < 1


def test_scores_of_the_reference_itself_take_the_ranks_in_order() -> None:
    reference = np.sort(np.random.default_rng(1).normal(size=20))
    assert ranks(reference, reference) == pytest.approx(np.arange(1, 21) / 21)


def test_new_scores_of_the_same_law_have_uniform_ranks() -> None:
    rng = np.random.default_rng(2)
    seen = ranks(rng.normal(size=2000), np.sort(rng.normal(size=20_000)))
    assert kstest(seen, "uniform").pvalue > 0.01


def test_over_uniform_ranks_features_have_falling_variances_and_hardly_overlap() -> None:
    def moment(i: int, j: int) -> float:
        def integrand(u: float) -> float:
            row = rank_features(np.array([u]))[0].astype(np.float64)
            return float(row[i] * row[j])

        return float(quad(integrand, 0.0, 1.0, epsabs=1e-5, limit=200)[0])

    weights = np.array([1.0, 0.4, 0.2])
    gram = np.array(
        [[moment(i, j) for j in range(RANK_FEATURES)] for i in range(RANK_FEATURES)]
    )
    correlations = gram / np.outer(weights, weights)
    assert np.diag(correlations) == pytest.approx(1.0, abs=1e-3)
    assert correlations[[0, 1], [1, 2]] == pytest.approx(0.0, abs=1e-3)
    # The normal score is odd as the third polynomial is, and no straight line.
    third = np.polynomial.Legendre.basis(3)
    shared, _ = quad(lambda u: norm.ppf(u) * np.sqrt(7.0) * third(2.0 * u - 1.0), 0.0, 1.0)
    assert correlations[0, 2] == pytest.approx(shared, abs=1e-3)
    assert shared < 0.2


def test_features_have_mean_zero_over_uniform_ranks() -> None:
    grid = (np.arange(100_000) + 0.5) / 100_000
    assert rank_features(grid).mean(axis=0, dtype=np.float64) == pytest.approx(
        np.zeros(3), abs=1e-6
    )


def test_features_are_a_normal_score_and_two_legendre_polynomials() -> None:
    at = np.linspace(0.01, 0.99, 33)
    features = rank_features(at)
    assert features[:, 0] == pytest.approx(norm.ppf(at), abs=1e-5)
    for column, (degree, weight) in enumerate(((2, 0.4), (3, 0.2)), start=1):
        polynomial = np.polynomial.Legendre.basis(degree)(2 * at - 1)
        expected = weight * np.sqrt(2 * degree + 1) * polynomial
        assert features[:, column] == pytest.approx(expected, abs=1e-5)


def test_location_spread_and_asymmetry_each_move_their_own_feature() -> None:
    rng = np.random.default_rng(3)
    reference = np.sort(rng.normal(size=20_000))

    def mean_of(scores: np.ndarray) -> np.ndarray:
        return rank_features(ranks(scores, reference)).mean(axis=0, dtype=np.float64)

    scores = rng.normal(size=20_000)
    assert mean_of(scores + 0.3)[0] == pytest.approx(0.3, abs=0.03)
    wider = mean_of(1.5 * scores)
    assert wider[1] > 0.1
    assert np.abs(wider[[0, 2]]).max() < 0.03
