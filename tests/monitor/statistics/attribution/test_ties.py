"""What holds between views: blind to which scans come, and not to how they are made."""

from __future__ import annotations

import numpy as np
import pytest
from two_class_world import each_its_own

from monitor.statistics.attribution.ties import Tie, TieShift, tie_shift
from monitor.statistics.embeddings import Flags, Floats

WIDTH, TOLD = 12, 4
_SLOPES = np.random.default_rng(0).standard_normal((WIDTH, TOLD))


def views(scans: int, seed: int) -> tuple[Floats, Floats]:
    """Two views of scans, the second as the first tells it, and noise."""
    rng = np.random.default_rng(seed)
    given = rng.standard_normal((scans, WIDTH))
    return given, given @ _SLOPES + rng.standard_normal((scans, TOLD)) * (1.0, 1.0, 0.1, 5.0)


@pytest.fixture(scope="module")
def tie() -> Tie:
    given, told = views(1000, 1)
    return Tie.fit(given, told, each_its_own(1000), seed=0)


def found(tie: Tie, given: Floats, told: Floats, inside: Flags | None = None) -> TieShift:
    return tie_shift(tie, given, told, each_its_own(len(given)), inside)


def test_slopes_are_those_that_the_views_have(tie: Tie) -> None:
    assert np.allclose(tie.slopes[:, 2], _SLOPES[:, 2], atol=0.1)
    assert tie.deviations == pytest.approx([1.0, 1.0, 0.1, 5.0], rel=0.1)


def test_another_selection_of_scans_leaves_views_together(tie: Tie) -> None:
    given, told = views(4000, 2)
    chosen = np.argsort(told[:, 0] + given[:, 0])[-400:]
    ordinary, selected = (
        found(tie, given[:400], told[:400]),
        found(tie, given[chosen], told[chosen]),
    )
    assert ordinary.mean < 0.15
    # What was selected by chance of the second view is off, the rest is not.
    assert selected.mean < 0.6
    assert np.abs(selected.by_coordinate[1:]).max() < 0.2
    by_given = np.argsort(given[:, 0])[-400:]
    assert found(tie, given[by_given], told[by_given]).mean < 0.15


def test_a_change_of_one_view_is_seen_in_deviations_of_what_is_left(tie: Tie) -> None:
    given, told = views(400, 3)
    moved = found(tie, given, told + np.array([0.0, 0.0, 0.2, 0.0]))
    assert moved.mean == pytest.approx(2.0, rel=0.15)
    assert moved.middle == pytest.approx(2.0, rel=0.15)
    assert moved.alike == pytest.approx(1.0, abs=0.15)
    assert moved.by_coordinate == pytest.approx([0.0, 0.0, 2.0, 0.0], abs=0.2)


def test_a_part_of_the_scans_moves_the_mean_and_not_the_middle(tie: Tie) -> None:
    given, told = views(400, 4)
    told[:60, 2] += 1.0
    moved = found(tie, given, told)
    assert moved.mean == pytest.approx(1.5, rel=0.2)
    assert moved.middle < 0.4
    assert moved.alike < 0.3
    inside = np.arange(400) < 60
    by_group = found(tie, given, told, inside)
    assert by_group.group > 5.0
    assert by_group.others < 0.2
    assert moved.others == 0.0
    assert moved.group == moved.middle


def test_views_that_say_nothing_of_each_other_are_predicted_by_their_mean() -> None:
    rng = np.random.default_rng(5)
    given, told = rng.standard_normal((300, WIDTH)), rng.standard_normal((300, 2))
    tie = Tie.fit(given, told, each_its_own(300), seed=0)
    assert np.abs(tie.slopes).max() < 0.25
    assert np.isfinite(found(tie, given[:50], np.zeros((50, 2))).mean)


def test_what_never_varies_divides_by_nothing() -> None:
    given, told = views(200, 6)
    told[:, 1] = 3.0
    tie = Tie.fit(given, told, each_its_own(200), seed=0)
    assert np.isfinite(tie.residuals(given, told) @ tie.whitening).all()
