from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from monitor.statistics.exact.splits import (
    ExactTest,
    Pooled,
    permutation_p_value,
    permuted_splits,
)
from registry.errors import BadInputError, EmbeddingsError, InsufficientDataError


def scans(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


def test_pooled_scans_stand_patient_by_patient_and_keep_their_group() -> None:
    reference, window = scans(4), scans(5, seed=1)
    pooled = Pooled.of(reference, window, ["b", "a", "b", "a"], ["d", "c", "c", "d", "c"])
    expected = np.concatenate([reference[[1, 3, 0, 2]], window[[1, 2, 4, 0, 3]]])
    assert np.array_equal(pooled.embeddings, expected.astype(np.float32))
    assert pooled.patients.codes.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert pooled.patients.scans.tolist() == [2, 2, 3, 2]
    assert pooled.window.tolist() == [False, False, True, True]


def test_scans_without_identifiers_are_patients_beside_those_with() -> None:
    pooled = Pooled.of(scans(3), scans(4, seed=1), None, [0, 0, 1, 1])
    assert pooled.patients.scans.tolist() == [1, 1, 1, 2, 2]


def test_too_few_scans_or_patients_and_shared_patients_are_refused() -> None:
    with pytest.raises(InsufficientDataError, match="scans of the window: need at least 2"):
        Pooled.of(scans(4), scans(1))
    with pytest.raises(InsufficientDataError, match="scans of the reference"):
        Pooled.of(scans(1), scans(4))
    with pytest.raises(InsufficientDataError, match="patients of the reference"):
        Pooled.of(scans(3), scans(4), [7, 7, 7], None)
    with pytest.raises(BadInputError, match="1 patients have scans in the reference and in"):
        Pooled.of(scans(2), scans(3), ["a", "b"], ["b", "c", "c"])
    with pytest.raises(EmbeddingsError, match="window has 3 dimensions and the reference 2"):
        Pooled.of(scans(4)[:, :2], scans(4))


def test_every_split_is_drawn_as_often_as_any_other() -> None:
    window = np.array([True, False, False, True, False])
    splits = permuted_splits(window, permutations=5000, rng=np.random.default_rng(3))
    assert np.array_equal(splits[:, 0], window)
    drawn = Counter(tuple(np.flatnonzero(column).tolist()) for column in splits[:, 1:].T)
    assert set(drawn) == set(combinations(range(5), 2))
    # Of 5,000 draws in ten cells each holds 500, with a deviation of 21.
    assert all(abs(count - 500) < 4 * 21.3 for count in drawn.values())


def test_patients_move_within_their_stratum_only() -> None:
    rng = np.random.default_rng(4)
    window = np.arange(30) < 9
    stratum = rng.permutation(np.arange(30) % 3)
    splits = permuted_splits(window, permutations=50, rng=rng, stratum=stratum)
    for one in range(3):
        counts = splits[stratum == one].sum(axis=0)
        assert (counts == counts[0]).all()
    assert (splits.any(axis=1) & ~splits.all(axis=1)).all()


def test_a_p_value_counts_ties_and_is_never_0() -> None:
    assert permutation_p_value(np.array([3.0, 1.0, 2.0, 0.0]), tolerance=0.0) == 0.25
    assert permutation_p_value(np.array([3.0, 3.0, 2.0, 4.0]), tolerance=0.0) == 0.75
    assert permutation_p_value(np.array([3.0, 2.9999, 2.0, 0.0]), tolerance=1e-3) == 0.5
    with pytest.raises(BadInputError, match="at least 1 permutation, got 0"):
        permuted_splits(np.array([True, False]), permutations=0, rng=np.random.default_rng())
    with pytest.raises(ValueError, match="got 0"):
        ExactTest(statistic=1.0, p_value=0.0, permutations=9)
