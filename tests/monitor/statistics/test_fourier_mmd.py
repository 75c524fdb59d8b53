from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.fourier_mmd import FourierMMD, median_distance
from monitor.statistics.whitening import Coordinates


def test_inner_products_of_features_approach_the_gaussian_kernel() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(12, 3)).astype(np.float32)
    member = FourierMMD(
        name="mmd",
        frequencies=rng.standard_normal((3, 40_000), dtype=np.float32),
        bandwidth=1.7,
        weight=1.0,
    )
    features = member.features(Coordinates(centred=x, principal=x)).astype(np.float64)
    distances = np.square(x[:, None] - x[None]).sum(axis=-1)
    # The error of a mean of 40,000 cosines: one in 200, four deviations.
    assert features @ features.T == pytest.approx(np.exp(-distances / (2 * 1.7**2)), abs=0.02)
    assert member.size == features.shape[1]


def test_rows_have_length_one() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(9, 4)).astype(np.float32)
    member = FourierMMD(
        name="mmd",
        frequencies=rng.standard_normal((4, 8), dtype=np.float32),
        bandwidth=0.3,
        weight=1.0,
    )
    rows = member.features(Coordinates(centred=x, principal=x))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_the_median_distance_is_over_pairs_of_different_scans() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], dtype=np.float32)
    assert median_distance(x) == 5.0
    assert median_distance(np.zeros((5, 2), dtype=np.float32)) == 1.0
