from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.patients import Patients
from monitor.statistics.whitened_mean import WhitenedMean
from monitor.statistics.whitening import Moments


def test_all_whitened_directions_give_inner_products_of_the_inverse_covariance() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(60, 5)) * [5, 3, 2, 1, 0.5]).astype(np.float32)
    basis = Moments.of(x, np.arange(60) % 2).basis()
    member = WhitenedMean(name="all", variances=basis.variances, weight=1.0, directional=False)
    white = member.features(basis.coordinates(x)).astype(np.float64)
    centred = x - x.mean(axis=0, dtype=np.float64)
    inverse = np.linalg.inv(np.cov(x.T.astype(np.float64), bias=True))
    assert white @ white.T == pytest.approx(centred @ inverse @ centred.T, abs=1e-3)


def test_directional_features_have_length_one_even_at_the_centre() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    basis = Moments.of(x, np.arange(50) % 2).basis()
    member = WhitenedMean(name="3", variances=basis.variances[:3], weight=1.0)
    features = member.features(basis.coordinates(x))
    assert features.shape == (50, 3)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.isfinite(member.features(basis.coordinates(basis.mean[None]))).all()


def test_leaving_a_scan_out_of_the_covariance_keeps_its_whitened_direction() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 4))
    covariance = x.T @ x / 30
    without = (x.T @ x - np.outer(x[0], x[0])) / 29
    full, left_out = (np.linalg.solve(s, x[0]) for s in (covariance, without))
    assert full / np.linalg.norm(full) == pytest.approx(left_out / np.linalg.norm(left_out))
    basis = Moments.of(x.astype(np.float32), np.arange(30) % 2).basis()
    member = WhitenedMean(name="4", variances=basis.variances, weight=1.0)
    at = basis.coordinates(x.astype(np.float32))
    patients = Patients.of(None, scans=30)
    assert np.array_equal(member.left_out_features(at, patients, 30), member.features(at))
