"""Who stands apart from a window, whatever moved all of it."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.attribution.standing_apart import OwnMiddle, apart_numbers
from monitor.statistics.embeddings import Floats


def scans(n: int, *, strangers: int = 0, seed: int = 0) -> Floats:
    """Six directions, two of them alike; strangers lie far out in one."""
    values = np.random.default_rng(seed).standard_normal((n, 6))
    values[:, 5] = values[:, 4] + 0.2 * values[:, 5]
    values[:strangers, 0] += 8.0
    return values


REFERENCE = OwnMiddle.fit(scans(2000, seed=1))


def told(values: Floats) -> dict[str, float]:
    return dict(apart_numbers({"view": REFERENCE}, {"view": values}, names=("view",)))


def test_a_reference_has_its_middle_at_0_and_its_far_end_at_1() -> None:
    distances = REFERENCE.distances(scans(2000, seed=2))
    assert np.median(distances) == pytest.approx(0.0, abs=1e-12)
    assert np.quantile(distances, 0.975) == pytest.approx(1.0, abs=0.1)


def test_what_moves_and_stretches_all_scans_alike_is_taken_out() -> None:
    values = scans(300, strangers=30)
    plain = REFERENCE.distances(values)
    np.testing.assert_allclose(REFERENCE.distances(1.8 * values + 5.0), plain, atol=1e-9)


def test_strangers_stand_apart_from_scans_that_moved_far_themselves() -> None:
    moved = scans(300, strangers=30) + np.array([0.0, 20.0, 0.0, -9.0, 0.0, 0.0])
    assert told(moved)["view: share far"] == pytest.approx(0.1, abs=0.03)
    assert told(moved)["view: farther group"] < 0.3
    assert told(scans(300) + 20.0)["view: share far"] < 0.03


def test_a_view_that_lacks_says_nothing_and_scans_that_are_all_alike_stand_together() -> None:
    assert set(dict(apart_numbers({}, {}, names=("view",))).values()) == {0.0}
    alike = told(np.ones((40, 6)))
    assert alike["view: share far"] == alike["view: gap"] == 0.0
    blank = OwnMiddle.fit(np.zeros((50, 3)))
    assert np.isfinite(blank.distances(scans(20)[:, :3])).all()
