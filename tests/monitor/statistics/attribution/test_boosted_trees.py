"""Trees as arrays give what trees give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.statistics.attribution.boosted_trees import BoostedTrees


def three_trees() -> BoostedTrees:
    """Of class 0: x0 <= 1 ? (x1 <= 0 ? .1 : .2) : .3, and a leaf .4; of class 1 a leaf -1."""
    return BoostedTrees(
        baseline=np.array([0.5, 0.0]),
        classes=np.array([0, 0, 1]),
        roots=np.array([0, 5, 6]),
        columns=np.array([0, 1, -1, -1, -1, -1, -1]),
        values=np.array([1.0, 0.0, 0.1, 0.2, 0.3, 0.4, -1.0]),
        lefts=np.array([1, 2, -1, -1, -1, -1, -1]),
        rights=np.array([4, 3, -1, -1, -1, -1, -1]),
    )


def test_rows_walk_to_their_leaves_and_leaves_add_up() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.1], [1.1, 0.0]])
    scores = np.array([[1.0, -1.0], [1.1, -1.0], [1.2, -1.0]])
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(three_trees().probabilities(rows), expected)


def test_a_walk_that_could_turn_back_is_refused() -> None:
    with pytest.raises(ValueError, match="before the nodes below"):
        replace(three_trees(), lefts=np.array([1, 0, -1, -1, -1, -1, -1]))
    with pytest.raises(ValueError, match="before the nodes below"):
        replace(three_trees(), rights=np.array([9, 3, -1, -1, -1, -1, -1]))


def test_arrays_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        replace(three_trees(), values=np.zeros(5))
    with pytest.raises(ValueError, match="known class"):
        replace(three_trees(), classes=np.array([0, 0, 2]))
    with pytest.raises(ValueError, match="known class"):
        replace(three_trees(), roots=np.array([0, 5]))
