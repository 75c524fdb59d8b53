"""Common displacements and new parts are told apart along the shift."""

from __future__ import annotations

import numpy as np
from two_class_world import DIMENSION, drawn, each_its_own, known

from monitor.statistics.attribution.coherence import Coherence, coherence
from monitor.statistics.embeddings import Singles

#: far out along the smallest directions
AWAY = np.zeros(DIMENSION, dtype=np.float32)
AWAY[-4:] = 3.0


def along(embeddings: Singles) -> Coherence:
    space = known().space
    return coherence(space, space.see(embeddings), each_its_own(len(embeddings)))


def test_an_ordinary_window_has_no_direction() -> None:
    rng = np.random.default_rng(1)
    means = [along(drawn(150, rng).embeddings).mean for _ in range(30)]
    # The reference's own error points the same way for all windows: a little is left.
    assert abs(np.mean(means)) < 0.3


def test_scans_are_laid_along_a_direction_that_others_found() -> None:
    # In sample, 60 scans in 24 dimensions would lean to their own mean by over half a deviation.
    rng = np.random.default_rng(2)
    space = known().space
    own = []
    for _ in range(20):
        features = space.see(drawn(60, rng).embeddings).features[:, space.whitened]
        about = features - space.portfolio.centre[space.whitened]
        direction = about.sum(axis=0) / np.linalg.norm(about.sum(axis=0))
        own.append(float((about @ direction).mean() * DIMENSION**0.5))
    held_out = [along(drawn(60, rng).embeddings).mean for _ in range(20)]
    assert np.mean(own) > 0.5
    assert np.mean(held_out) < 0.3


def test_a_common_displacement_takes_the_lower_end_along() -> None:
    found = along(drawn(300, np.random.default_rng(3)).embeddings + AWAY)
    assert found.mean > 1.5
    # Features have a bounded length: the upper end cannot move as far as the lower one.
    assert 0.8 < found.lower_over_upper < 2.0
    assert found.untouched[1] < 0.2


def test_a_new_part_leaves_the_others_where_they_were() -> None:
    scans = drawn(600, np.random.default_rng(4)).embeddings
    scans[:180] += 2 * AWAY
    found = along(scans)
    lower, middle, upper = found.quantiles
    assert abs(lower) < 0.5 < upper
    assert middle < upper
    # 70 % of scans did not move: as many as expected lie low, times 0.7.
    np.testing.assert_allclose(found.untouched, 0.7, atol=0.2)


def test_scores_are_one_for_each_scan_and_those_displaced_have_the_highest() -> None:
    scans = drawn(200, np.random.default_rng(5)).embeddings
    scans[:60] += 2 * AWAY
    scores = along(scans).scores
    assert scores.shape == (200,)
    assert scores[:60].mean() > scores[60:].mean() + 1.5
