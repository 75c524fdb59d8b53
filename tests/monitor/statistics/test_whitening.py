from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.whitening import Moments, smooth_spectrum
from registry.errors import EmbeddingsError


def reference(rows: int = 90, dimension: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    scales = 1.0 / np.arange(1, dimension + 1)
    x = (50.0 + 4.0 * rng.normal(size=(rows, dimension)) * scales).astype(np.float32)
    return x, rng.integers(0, 3, size=rows)


@pytest.mark.parametrize("without", [None, 0, 2])
def test_a_basis_without_a_fold_is_that_of_the_other_scans(without: int | None) -> None:
    x, fold = reference()
    basis = Moments.of(x, fold, chunk=16).basis(without=without)
    kept = x if without is None else x[fold != without]
    covariance = np.cov(kept.T.astype(np.float64), bias=True)
    rebuilt = (basis.directions * basis.variances) @ basis.directions.T * basis.unit**2
    assert basis.mean == pytest.approx(kept.mean(axis=0), rel=1e-6)
    assert rebuilt == pytest.approx(covariance, abs=1e-5)
    assert np.all(np.diff(basis.variances) <= 0)


def test_coordinates_are_uncorrelated_with_the_stated_variances() -> None:
    x, fold = reference()
    basis = Moments.of(x, fold).basis()
    principal = basis.coordinates(x).principal.astype(np.float64)
    assert principal.T @ principal / len(x) == pytest.approx(np.diag(basis.variances), abs=1e-6)
    components = basis.leading_components(x, count=2)
    assert components == pytest.approx(basis.unit * principal[:, :2], abs=1e-4)


def test_scans_beyond_the_range_of_float32_squares_stay_finite() -> None:
    x, fold = reference()
    far = np.full((1, 7), 3e38, dtype=np.float32)
    principal = Moments.of(x, fold).basis().coordinates(far).principal
    assert np.isfinite(np.square(principal)).all()


def test_a_reference_that_does_not_vary_is_refused() -> None:
    with pytest.raises(EmbeddingsError, match="do not vary"):
        Moments.of(np.ones((10, 3), dtype=np.float32), np.arange(10) % 2)


def test_a_smoothed_spectrum_falls_and_pools_what_the_fits_do_not_know() -> None:
    rng = np.random.default_rng(0)
    true = 1.0 / np.arange(1, 401) ** 1.5
    spectrum = smooth_spectrum(true * rng.gamma(50.0, 1 / 50.0, size=400), rank=300)
    assert np.all(np.diff(spectrum) <= 0)
    assert np.ptp(np.log(spectrum[300:])) < 1e-9
    error = np.log(spectrum[:300] / true[:300])
    assert np.abs(error).max() < 0.3
    assert np.sqrt(np.mean(error**2)) < 0.6 * np.sqrt(1 / 50.0)


def test_directions_without_any_variance_do_not_divide_by_zero() -> None:
    spectrum = smooth_spectrum(np.r_[np.ones(20), np.zeros(20)], rank=40)
    assert spectrum.min() > 0
