"""How many scans lie far, and whether they are a group of their own."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.attribution.far_part import far_part

#: the distances' unit in deviations of a normal law
UNIT = 1.96


def ordinary(scans: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(scans) / UNIT


def test_of_an_ordinary_window_one_in_a_hundred_lies_far() -> None:
    found = far_part(ordinary(200_000, 1))
    assert found.far == pytest.approx(0.01, abs=0.001)
    assert found.very_far == pytest.approx(0.001, abs=0.0003)
    np.testing.assert_allclose(found.quantiles * UNIT, [-1.28, 0, 1.28, 1.88], atol=0.02)
    # Otsu's two halves of a normal law: 2 / pi of the variance.
    assert found.gap == pytest.approx(2 / np.pi, abs=0.01)


def test_a_far_group_shows_with_its_size_and_distance() -> None:
    distances = np.concatenate([ordinary(900, 2), 6 + 0.1 * ordinary(100, 3)])
    found = far_part(distances)
    assert found.far == pytest.approx(0.1, abs=0.02)
    assert found.group == pytest.approx(0.1, abs=1e-9)
    assert found.gap > 0.9
    # Nine ordinary scans lie far, too.
    assert found.distance == pytest.approx(distances[distances > 1.19].mean())


def test_the_two_groups_are_those_of_least_variance_within() -> None:
    values = np.random.default_rng(4).gamma(1.0, 1.0, 40)
    ordered = np.sort(values)

    def between(cut: int) -> float:
        low, high = ordered[:cut], ordered[cut:]
        within = (len(low) * low.var() + len(high) * high.var()) / len(ordered)
        return float(1 - within / ordered.var())

    best = max(range(1, 40), key=between)
    found = far_part(values)
    assert found.gap == pytest.approx(between(best))
    assert found.group == pytest.approx((40 - best) / 40)


def test_scans_that_all_lie_at_one_place_have_no_groups() -> None:
    found = far_part(np.full(10, 0.3))
    assert (found.gap, found.group, found.far, found.distance) == (0.0, 0.0, 0.0, 0.0)
