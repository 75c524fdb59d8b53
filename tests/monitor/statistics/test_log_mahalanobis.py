from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.log_mahalanobis import (
    LogMahalanobis,
    left_out_log_distances,
    legendre,
    log_distances,
)
from monitor.statistics.patients import Patients
from monitor.statistics.whitening import Moments


@pytest.mark.parametrize(
    "identifiers", [None, [0] * 1 + [1] * 2 + [2] * 3 + [3] * 1 + [4] * 5 + list(range(5, 33))]
)
def test_left_out_scores_are_those_of_a_fit_without_the_patient(
    identifiers: list[int] | None,
) -> None:
    rng = np.random.default_rng(8)
    n, d, ridge = 40, 3, 0.05
    x = rng.normal(size=(n, d)) * [3.0, 1.0, 0.3]
    codes = np.arange(n) if identifiers is None else rng.permutation(identifiers)
    basis = Moments.of(x.astype(np.float32), np.arange(n) % 2).basis()
    principal = basis.coordinates(x.astype(np.float32)).principal
    patients = Patients.of(None if identifiers is None else codes, scans=n)
    scores = left_out_log_distances(
        principal, 1.0 / (basis.variances + ridge), patients=patients, scans=n
    )
    for i in range(n):
        rest = x[codes != codes[i]] / basis.unit
        m = n - len(rest)
        covariance = np.cov(rest.T, bias=True) + ridge * n / (n - m) * np.eye(d)
        away = x[i] / basis.unit - rest.mean(axis=0)
        assert scores[i] == pytest.approx(
            np.log(away @ np.linalg.solve(covariance, away)), abs=1e-4
        )


def test_scores_of_new_scans_are_plain_mahalanobis_distances() -> None:
    principal = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    scores = log_distances(principal, np.array([1.0, 0.25]))
    assert scores[0] == pytest.approx(np.log(2.0))
    assert np.isfinite(scores[1])


def test_polynomials_are_legendre_and_uncorrelated_over_uniform_ranks() -> None:
    ranks = (np.arange(100_000) + 0.5) / 100_000
    features = legendre(ranks).astype(np.float64)
    for degree, weight in ((1, 1.0), (2, 0.6), (3, 0.36)):
        polynomial = np.polynomial.Legendre.basis(degree)(2 * ranks - 1)
        expected = weight * np.sqrt(2 * degree + 1) * polynomial
        assert features[:, degree - 1] == pytest.approx(expected, abs=1e-5)
    assert features.T @ features / len(ranks) == pytest.approx(
        np.diag([1.0, 0.36, 0.1296]), abs=1e-4
    )


def test_ranks_lie_strictly_between_zero_and_one_and_split_ties() -> None:
    member = LogMahalanobis(
        name="m", precisions=np.ones(2), scores=np.array([1.0, 2.0, 2.0, 3.0]), weight=1.0
    )
    assert member.ranks(np.array([0.0, 2.0, 9.0])) == pytest.approx([0.1, 0.5, 0.9])
