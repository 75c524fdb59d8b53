from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from monitor.statistics.sampling.coverage import LARGEST_POOL, covering
from registry.errors import BadInputError


def radius(vectors: np.ndarray, centres: list[int]) -> float:
    points = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    distances = np.linalg.norm(points[:, None] - points[centres][None], axis=2)
    return float(distances.min(axis=1).max())


def test_no_scan_stays_farther_than_twice_the_best_possible() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        vectors = rng.normal(size=(14, 3)).astype(np.float32)
        best = min(radius(vectors, list(some)) for some in combinations(range(14), 4))
        assert radius(vectors, covering(vectors, 4)) <= 2 * best + 1e-6


def test_a_rare_group_is_read_although_chance_would_miss_it() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2_000, 8)).astype(np.float32)
    vectors[:4] += 12.0
    assert set(covering(vectors, 20)) & set(range(4))


def test_it_is_the_same_each_time_and_takes_nothing_twice() -> None:
    vectors = np.repeat(np.arange(5, dtype=np.float32)[:, None], 3, axis=0)
    taken = covering(vectors, 15)
    assert sorted(taken) == list(range(15))
    assert taken == covering(vectors, 15)
    assert covering(vectors, 0) == []


@pytest.mark.parametrize(
    "vectors", [np.zeros((LARGEST_POOL + 1, 1)), np.zeros(3), np.array([[np.nan]])]
)
def test_what_cannot_be_covered_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(BadInputError, match="coverage takes finite vectors"):
        covering(vectors.astype(np.float32), 1)
