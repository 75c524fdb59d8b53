from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.whitening import Eigenbasis, Moments, smooth_spectrum
from registry.errors import EmbeddingsError

GROUPS = [[True, True, True], [False, True, True], [True, False, True], [False, False, True]]


def reference(rows: int = 90, dimension: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    scales = 1.0 / np.arange(1, dimension + 1)
    x = (50.0 + 4.0 * rng.normal(size=(rows, dimension)) * scales).astype(np.float32)
    return x, rng.integers(0, 3, size=rows)


def whole_basis() -> tuple[np.ndarray, Eigenbasis]:
    x, group = reference()
    return x, Moments.of(x, group).basis(np.ones(3, dtype=bool))


@pytest.mark.parametrize("groups", GROUPS)
def test_a_basis_of_some_groups_is_that_of_their_scans_alone(groups: list[bool]) -> None:
    x, group = reference()
    basis = Moments.of(x, group, chunk=16).basis(np.array(groups))
    kept = x[np.array(groups)[group]]
    covariance = np.cov(kept.T.astype(np.float64), bias=True)
    rebuilt = (basis.directions * basis.variances) @ basis.directions.T * basis.unit**2
    assert basis.mean == pytest.approx(kept.mean(axis=0), rel=1e-6)
    assert rebuilt == pytest.approx(covariance, abs=1e-5)
    assert np.all(np.diff(basis.variances) <= 0)


@pytest.mark.parametrize("groups", GROUPS)
def test_moments_of_groups_add_up_whatever_the_chunks(groups: list[bool]) -> None:
    x, group = reference()
    chosen = np.array(groups)
    small, large = (Moments.of(x, group, chunk=chunk) for chunk in (7, 8192))
    kept = x[chosen[group]].astype(np.float64)
    for moments in (small, large):
        assert moments.counts.tolist() == [int(np.sum(group == k)) for k in range(3)]
        assert moments.unit == pytest.approx(
            np.sqrt(np.square(x - x.mean(axis=0, dtype=np.float64)).sum(axis=1).mean())
        )
        assert moments.embedding(moments.mean(chosen)) == pytest.approx(
            kept.mean(axis=0), rel=1e-6
        )
        assert moments.covariance(chosen) * moments.unit**2 == pytest.approx(
            np.cov(kept.T, bias=True), abs=1e-9
        )


def test_the_unit_of_length_is_that_of_all_groups() -> None:
    x, group = reference()
    moments = Moments.of(x, group)
    units = {moments.basis(np.array(groups)).unit for groups in GROUPS}
    assert units == {moments.unit}


def test_coordinates_are_uncorrelated_with_the_stated_variances() -> None:
    x, basis = whole_basis()
    principal = basis.principal(basis.centred(x)).astype(np.float64)
    assert principal.T @ principal / len(x) == pytest.approx(np.diag(basis.variances), abs=1e-6)
    components = basis.leading_components(x, count=2)
    assert components == pytest.approx(basis.unit * principal[:, :2], abs=1e-4)


def test_a_direction_has_its_largest_part_positive() -> None:
    _, basis = whole_basis()
    largest = np.abs(basis.directions).argmax(axis=0)
    assert basis.directions[largest, np.arange(7)].min() > 0


def test_scans_beyond_the_range_of_float32_squares_stay_finite() -> None:
    _, basis = whole_basis()
    far = np.full((1, 7), 3e38, dtype=np.float32)
    assert np.isfinite(np.square(basis.principal(basis.centred(far)))).all()


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
