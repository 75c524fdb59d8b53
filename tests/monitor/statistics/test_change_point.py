from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.change_point import change_point
from registry.errors import InsufficientDataError


def test_the_change_point_is_that_of_the_likelihood_maximised_term_by_term() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=120)
    scores[70:] += 0.8

    def log_likelihood(k: int) -> float:
        mean = max(scores[k:].mean(), 0.0)
        left = np.sum(scores[:k] ** 2) + np.sum((scores[k:] - mean) ** 2)
        return float(-left)

    assert change_point(scores).index == max(range(120), key=log_likelihood)


@pytest.mark.parametrize(("at", "rise"), [(200, 0.5), (60, 1.0), (350, 1.0), (0, 1.0)])
def test_the_interval_holds_the_true_change_in_95_of_100(at: int, rise: float) -> None:
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(600):
        scores = rng.normal(size=400)
        scores[at:] += rise
        found = change_point(scores)
        assert found.low <= found.index <= found.high
        inside += found.low <= at <= found.high
    # Two standard errors of 600 trials below .95.
    assert inside / 600 >= 0.932


def test_units_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(size=50), rng.normal(1.0, size=50)]
    assert change_point(scores) == change_point(1e6 * scores)


def test_scores_that_fall_are_no_shift_that_began_there() -> None:
    scores = np.r_[np.tile([1.2, 0.8], 30), np.tile([-5.0, -6.0], 10)]
    assert change_point(scores).index == 0


def test_scores_without_noise_have_a_sharp_onset() -> None:
    found = change_point(np.r_[np.zeros(20), np.ones(20)])
    assert (found.low, found.index, found.high) == (20, 20, 20)


def test_too_few_scores_are_refused_by_number() -> None:
    with pytest.raises(InsufficientDataError, match="10"):
        change_point(np.ones(9))
