"""Which group stands out along the shift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from monitor.statistics.attribution.location import locate


def test_the_displaced_group_is_found_with_welchs_contrast() -> None:
    rng = np.random.default_rng(1)
    groups = np.array(["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    scores = rng.standard_normal(100)
    scores[50:80] += 2.0
    place = locate(scores, groups)
    assert place is not None
    assert (groups[place.inside] == "b").all()
    assert place.share == pytest.approx(0.3)
    assert (place.own, place.others) == (
        pytest.approx(scores[50:80].mean()),
        pytest.approx(np.delete(scores, np.arange(50, 80)).mean()),
    )
    inside = groups == "b"
    # numpy's variance divides by n, Welch's by n - 1.
    expected = ttest_ind(scores[inside], scores[~inside], equal_var=False).statistic
    assert place.contrast == pytest.approx(expected, rel=0.03)


def test_without_groups_or_with_one_or_only_small_ones_there_is_no_place() -> None:
    scores = np.random.default_rng(2).standard_normal(40)
    assert locate(scores, None) is None
    assert locate(scores, ["a"] * 40) is None
    assert locate(scores, ["a"] * 29 + ["b"] * 11) is None
    assert locate(scores, ["a"] * 28 + ["b"] * 12) is not None


def test_the_sign_counts_a_group_that_stayed_is_not_the_place() -> None:
    scores = np.concatenate([np.full(30, 1.0), np.zeros(15)])
    scores += 0.1 * np.random.default_rng(3).standard_normal(45)
    place = locate(scores, ["moved"] * 30 + ["stayed"] * 15)
    assert place is not None
    assert place.inside[:30].all()
