"""Distances to simulated windows, piece by piece, against the definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.statistics.attribution.nearness import NEIGHBOURS, Nearness
from monitor.statistics.embeddings import Floats

PIECES = np.array([0, 0, -1, 1])
MIDDLES, SCALES = np.array([1.0, 0.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0, 0.5])


def windows(count: int, *, seed: int, at: float = 0.0) -> Floats:
    """Return standardised numbers of windows; those of the first piece go together."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((count, 4))
    own[:, 1] = 0.9 * own[:, 0] + 0.1 * own[:, 1]
    own[:, 3] += at
    return own


def nearness() -> Nearness:
    unread = Nearness(
        middles=MIDDLES,
        scales=SCALES,
        pieces=PIECES,
        examples=np.concatenate([windows(60, seed=1), windows(50, seed=2, at=4.0)]),
        kinds=np.repeat([0, 1], [60, 50]),
        held_out=np.zeros((2, 2, 1)),
    )
    distances = [
        np.sort(unread.distances(raw(windows(99, seed=3 + kind, at=4.0 * kind)), kind), axis=0)
        for kind in (0, 1)
    ]
    return replace(unread, held_out=np.stack([one.T for one in distances]))


def raw(standard: Floats) -> Floats:
    return standard * SCALES + MIDDLES


def test_the_distance_is_that_of_the_fifth_nearest_example_in_shrunk_coordinates() -> None:
    known, own = nearness(), windows(3, seed=9)
    examples = known.examples[:60, :2]
    covariance = np.cov(examples.T)
    shrunk = covariance + 0.1 * np.trace(covariance) / 2 * np.eye(2)
    for row, found in zip(own, known.distances(raw(own), 0)[:, 0], strict=True):
        gaps = examples - row[:2]
        squares = np.einsum("ij,jk,ik->i", gaps, np.linalg.inv(shrunk), gaps)
        assert found == pytest.approx(np.sqrt(np.sort(squares)[NEIGHBOURS - 1]), rel=1e-6)


def test_windows_of_a_kind_are_as_far_out_as_those_that_were_held_out() -> None:
    known, own = nearness(), raw(windows(400, seed=20))
    shares = known.shares_farther(own, np.zeros(400, dtype=np.int64))
    assert shares.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.1)
    assert shares.min() >= 1 / 100


def test_what_is_strange_in_one_piece_is_so_in_no_other() -> None:
    own = windows(1, seed=30)
    own[0, 1] = own[0, 0] - 3.0  # Against what goes together, though neither is rare.
    own[0, 2] = 50.0  # Not compared.
    shares = nearness().shares_farther(raw(own), np.array([0]))[0]
    assert shares[0] == pytest.approx(0.01)
    assert shares[1] > 0.1


def test_each_pattern_is_compared_with_its_own_kind() -> None:
    own = np.concatenate([windows(1, seed=40), windows(1, seed=40, at=4.0)])
    known = nearness()
    same = known.shares_farther(raw(own), np.array([0, 1]))[:, 1]
    other = known.shares_farther(raw(own), np.array([1, 0]))[:, 1]
    assert (same > 0.05).all()
    assert other == pytest.approx([0.01, 0.01])


def test_examples_without_a_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="must have a kind"):
        replace(nearness(), kinds=np.zeros(3, dtype=np.int64))
