from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.subspace import Subspace
from monitor.statistics.whitening import Moments

GROUPS = np.array([False, True, False, True])


def some_scans(dimension: int = 8, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scans of four groups, the second and fourth along axes of their own."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, size=400)
    x = rng.normal(size=(400, dimension)) / np.arange(1, dimension + 1)
    own = GROUPS[group]
    x[own] = x[own] @ np.linalg.qr(rng.normal(size=(dimension, dimension)))[0] + 0.3
    return (20.0 + 5.0 * x).astype(np.float32), group


def plain_eigh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64), bias=True))
    return values[::-1], vectors[:, ::-1]


def test_directions_and_deviations_are_those_of_the_shaping_scans() -> None:
    x, group = some_scans()
    moments = Moments.of(x, group)
    subspace = Subspace.of(moments, GROUPS, size=5)
    own = x[GROUPS[group]]
    values, vectors = plain_eigh(own)
    assert subspace.mean == pytest.approx(own.mean(axis=0, dtype=np.float64), rel=1e-6)
    assert np.abs(subspace.directions.T @ vectors[:, :5]) == pytest.approx(np.eye(5), abs=1e-4)
    assert subspace.deviations * moments.unit == pytest.approx(np.sqrt(values[:5]), rel=1e-4)


def test_directions_are_orthonormal_and_variances_fall() -> None:
    x, group = some_scans()
    subspace = Subspace.of(Moments.of(x, group), GROUPS, size=8)
    gram = subspace.directions.T.astype(np.float64) @ subspace.directions
    assert gram == pytest.approx(np.eye(8), abs=1e-6)
    assert np.all(np.diff(subspace.deviations) <= 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_inside_is_the_fewest_directions_that_hold_65_percent(seed: int) -> None:
    x, group = some_scans(seed=seed)
    subspace = Subspace.of(Moments.of(x, group), GROUPS, size=8)
    values, _ = plain_eigh(x[GROUPS[group]])
    shares = np.cumsum(values) / values.sum()
    assert shares[subspace.inside - 1] >= 0.65
    assert subspace.inside == 1 or shares[subspace.inside - 2] < 0.65


def test_something_stays_outside_and_the_inside_is_within_the_directions() -> None:
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(100, 2)).astype(np.float32)
    everyone = np.array([True])
    group = np.zeros(100, dtype=np.int64)
    assert Subspace.of(Moments.of(plane, group), everyone, size=2).inside == 1
    round_cloud = rng.normal(size=(100, 30)).astype(np.float32)
    # 65 % of a round cloud take about 15 directions; three are kept.
    assert Subspace.of(Moments.of(round_cloud, group), everyone, size=3).inside == 3


def test_a_direction_without_variance_keeps_a_positive_deviation() -> None:
    x = np.random.default_rng(2).normal(size=(60, 4)).astype(np.float32)
    x[:, 2:] = 0.0
    moments = Moments.of(x, np.zeros(60, dtype=np.int64))
    subspace = Subspace.of(moments, np.array([True]), size=4)
    # float32 tells variances apart down to 1e-7 of the largest, no further.
    assert subspace.deviations[2:] / subspace.deviations[0] == pytest.approx(
        np.sqrt(1e-7), rel=1e-3
    )
