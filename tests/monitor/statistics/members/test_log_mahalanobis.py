from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.members.log_mahalanobis import (
    LogMahalanobis,
    left_out_log_distances,
    log_distances,
)
from monitor.statistics.patients import Patients
from monitor.statistics.whitening import Moments

EVERYONE = np.array([True, True])
RIDGE = 0.05


def seen(principal: np.ndarray) -> Coordinates:
    """Scans of which only the principal coordinates are asked."""
    return Coordinates(
        centred=principal,
        principal=principal,
        leading=principal,
        outside=np.ones(len(principal)),
    )


def plain_features(rank: float) -> list[float]:
    u = 2 * rank - 1
    return [
        float(norm.ppf(rank)),
        0.4 * np.sqrt(5) * (3 * u**2 - 1) / 2,
        0.2 * np.sqrt(7) * (5 * u**3 - 3 * u) / 2,
    ]


def fitted(*, seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings [40, 3], their principal coordinates, and precisions."""
    x = np.random.default_rng(seed).normal(size=(40, 3)) * [3.0, 1.0, 0.3]
    basis = Moments.of(x.astype(np.float32), np.arange(40) % 2).basis(EVERYONE)
    principal = basis.principal(basis.centred(x.astype(np.float32)))
    return x / basis.unit, principal, 1.0 / (basis.variances + RIDGE)


IDENTIFIERS = [0] * 1 + [1] * 2 + [2] * 3 + [3] * 1 + [4] * 5 + list(range(5, 33))


@pytest.mark.parametrize("identifiers", [None, IDENTIFIERS])
def test_left_out_scores_are_those_of_a_fit_without_the_patient(
    identifiers: list[int] | None,
) -> None:
    x, principal, precisions = fitted()
    n = len(x)
    codes = (
        np.arange(n)
        if identifiers is None
        else np.random.default_rng(1).permutation(identifiers)
    )
    patients = Patients.of(None if identifiers is None else codes, scans=n)
    scores = left_out_log_distances(principal, precisions, patients=patients, scans=n)
    for i in range(n):
        rest = x[codes != codes[i]]
        covariance = np.cov(rest.T, bias=True) + RIDGE * n / len(rest) * np.eye(3)
        away = mahalanobis(x[i], rest.mean(axis=0), np.linalg.inv(covariance))
        assert scores[i] == pytest.approx(2 * np.log(away), abs=1e-4)


def test_scores_of_new_scans_are_plain_mahalanobis_distances() -> None:
    x, _, precisions = fitted()
    embeddings = x.astype(np.float32)
    basis = Moments.of(embeddings, np.arange(40) % 2).basis(EVERYONE)
    new = np.random.default_rng(2).normal(size=(9, 3))
    covariance = np.cov(x.T, bias=True) + RIDGE * np.eye(3)
    expected = [
        2 * np.log(mahalanobis(one, x.mean(axis=0), np.linalg.inv(covariance))) for one in new
    ]
    principal = basis.principal(basis.centred(new.astype(np.float32)))
    # x is in units of length already.
    assert basis.unit == pytest.approx(1.0, rel=1e-5)
    assert log_distances(principal, precisions) == pytest.approx(expected, abs=1e-3)


def test_a_scan_at_the_very_centre_has_a_finite_score() -> None:
    principal = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    scores = log_distances(principal, np.array([1.0, 0.25]))
    assert scores[0] == pytest.approx(np.log(2.0))
    assert np.isfinite(scores[1])
    patients = Patients.of(None, scans=2)
    left_out = left_out_log_distances(principal, np.ones(2), patients=patients, scans=50)
    assert np.isfinite(left_out).all()


def test_a_patient_with_all_scans_but_one_does_not_divide_by_nothing() -> None:
    _, principal, precisions = fitted()
    patients = Patients.of([0] * 39 + [1], scans=40)
    scores = left_out_log_distances(principal, precisions, patients=patients, scans=40)
    assert np.isfinite(scores).all()


def test_features_are_those_of_the_rank_among_left_out_scores() -> None:
    _, principal, precisions = fitted()
    scores = np.sort(np.random.default_rng(3).normal(0.5, 1.5, size=59))
    member = LogMahalanobis(name="m", precisions=precisions, scores=scores, weight=1.0)
    features = member.features(seen(principal))
    between = interp1d(scores, np.arange(1, 60), bounds_error=False, fill_value=(1, 59))
    assert features.shape == (40, member.size)
    for row, z in zip(features, principal.astype(np.float64), strict=True):
        score = np.log(sum(value**2 * p for value, p in zip(z, precisions, strict=True)))
        rank = float(between(score)) / 60
        assert row == pytest.approx(plain_features(rank), abs=1e-5)


def test_scans_of_the_fit_get_features_of_their_left_out_scores_in_any_order() -> None:
    _, principal, precisions = fitted()
    patients = Patients.of(IDENTIFIERS, scans=40)
    scores = left_out_log_distances(principal, precisions, patients=patients, scans=40)
    member = LogMahalanobis(name="m", precisions=precisions, scores=np.sort(scores), weight=1.0)
    features = member.left_out_features(seen(principal), patients, 40)
    places = np.argsort(np.argsort(scores))
    for row, place in zip(features, places, strict=True):
        assert row == pytest.approx(plain_features((place + 1) / 41), abs=1e-5)
    assert not member.split
    assert np.abs(features - member.features(seen(principal))).max() > 0.01
