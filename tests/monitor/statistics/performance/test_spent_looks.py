"""Bounds of repeated looks: against published constants, an independent integral, and chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from monitor.statistics.performance.spent_looks import SpentLook, next_look
from registry.errors import BadInputError


def looks_at(information: list[float], spend: list[float]) -> list[SpentLook]:
    looks: list[SpentLook] = []
    for known, by_now in zip(information, spend, strict=True):
        looks.append(next_look(looks, information=known, spend=by_now))
    return looks


def test_the_first_look_has_the_bound_of_a_single_test() -> None:
    [look] = looks_at([3.0], [0.025])
    assert look.bound == pytest.approx(norm.isf(0.025), abs=1e-4)


@pytest.mark.parametrize(("looks", "constant"), [(2, 2.178), (5, 2.413), (10, 2.555)])
def test_pocock_s_constants_spend_a_fortieth(looks: int, constant: float) -> None:
    """Jennison and Turnbull (2000), table 2.1, two-sided 0.05."""
    known = [float(number) for number in range(1, looks + 1)]
    spent = [_crossed(known[:number], [constant] * number) for number in range(1, looks + 1)]
    assert spent[-1] == pytest.approx(0.025, abs=1e-4)
    bounds = [look.bound for look in looks_at(known, spent)]
    assert bounds == pytest.approx([constant] * looks, abs=5e-3)


def test_bounds_agree_with_the_normal_distribution_of_all_looks_together() -> None:
    known, spend = [1.0, 1.5, 4.0], [0.005, 0.02, 0.05]
    bounds = [look.bound for look in looks_at(known, spend)]
    second = brentq(lambda c: _crossed(known[:2], [bounds[0], c]) - spend[1], 0.0, 6.0)
    third = brentq(lambda c: _crossed(known, [*bounds[:2], c]) - spend[2], 0.0, 6.0)
    assert bounds[1:] == pytest.approx([second, third], abs=2e-3)


def test_paths_of_no_fall_cross_as_often_as_was_spent() -> None:
    rng = np.random.default_rng(4)
    known = np.linspace(0.1, 1.0, 20)
    looks = looks_at(known.tolist(), (0.05 * np.arange(1, 21) / 20).tolist())
    steps = rng.normal(size=(20_000, 20)) * np.sqrt(np.diff(known, prepend=0.0))
    deviates = np.cumsum(steps, axis=1) / np.sqrt(known)
    crossed = deviates >= [look.bound for look in looks]
    for seen in (5, 20):
        share = crossed[:, :seen].any(axis=1).mean()
        assert share == pytest.approx(looks[seen - 1].spent, abs=4 * np.sqrt(0.05 / 20_000))


def test_nothing_to_spend_leaves_a_bound_that_nothing_reaches() -> None:
    assert looks_at([1.0, 2.0], [0.01, 0.01])[1].bound == np.inf


def test_looks_that_are_none_are_refused() -> None:
    looks = looks_at([1.0], [0.01])
    with pytest.raises(BadInputError, match="knows no more is none"):
        next_look(looks, information=1.005, spend=0.02)
    with pytest.raises(BadInputError, match="was spent before"):
        next_look(looks, information=2.0, spend=0.005)
    with pytest.raises(BadInputError, match="above 0"):
        next_look([], information=0.0, spend=0.02)


def _crossed(known: list[float], bounds: list[float]) -> float:
    """Return the chance to reach any bound, by scipy's integral over all looks at once."""
    covariance = [[np.sqrt(min(a, b) / max(a, b)) for b in known] for a in known]
    inside = multivariate_normal(cov=covariance, seed=1, maxpts=200_000, abseps=1e-6).cdf(
        bounds
    )
    return 1.0 - float(inside)
