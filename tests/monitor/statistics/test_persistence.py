from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.null import FoldSums
from monitor.statistics.patients import Patients
from monitor.statistics.persistence import GROUPS, persistence_p_value, persistence_statistic
from monitor.statistics.two_sample import Dependence, Layout, PatientSums
from registry.errors import BadInputError, InsufficientDataError

WEIGHTS = np.array([1.0, 1.0])
LAYOUT = Layout(edges=np.array([0, 2, 5]), peaked=np.array([False, False]))


@pytest.fixture(scope="module")
def forms() -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    patients = Patients.of(None, scans=400)
    sums = PatientSums.of(features, patients, Dependence.none(2))
    fold = FoldSums.of(sums, LAYOUT)
    return fold.forms(groups=GROUPS, draws=5000, rng=np.random.default_rng(1))


def p_value(
    forms: np.ndarray, p_values: list[float], sizes: list[float], reference_size: float
) -> float:
    return persistence_p_value(
        p_values, sizes, reference_size=reference_size, forms=forms, weights=WEIGHTS
    )


def test_the_statistic_is_the_best_pair_of_neighbours_worse_window() -> None:
    rows = np.array([[0.01, 0.9, 0.01], [0.01, 0.02, 0.9], [0.9, 0.03, 0.02]])
    assert persistence_statistic(rows).tolist() == [0.9, 0.02, 0.03]
    assert float(persistence_statistic(np.array([0.2, 0.1]))) == 0.2


@pytest.mark.parametrize("level", [0.05, 0.2, 0.6])
def test_against_an_unlimited_reference_windows_are_independent(
    forms: np.ndarray, level: float
) -> None:
    two = p_value(forms, [level] * 2, [100] * 2, 1e12)
    three = p_value(forms, [level] * 3, [100] * 3, 1e12)
    # Four dependent turns of 5,000 draws: their error lies between those of 5,000 and 20,000.
    for p, exact in ((two, level**2), (three, 2 * level**2 - level**3)):
        assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 5000))


def test_a_small_reference_makes_windows_alike_and_the_rule_weaker(forms: np.ndarray) -> None:
    by_reference = [p_value(forms, [0.05] * 3, [100] * 3, size) for size in (1e9, 200, 50, 1)]
    assert by_reference == sorted(by_reference)
    assert by_reference[-1] == pytest.approx(0.05, rel=0.3)


def test_the_resolution_reaches_far_below_the_weekly_budget(forms: np.ndarray) -> None:
    assert p_value(forms, [2e-4] * 3, [300] * 3, 1200) < 2e-4


def test_one_window_cannot_persist(forms: np.ndarray) -> None:
    with pytest.raises(InsufficientDataError, match="at least 2, got 1"):
        p_value(forms, [0.01], [300], 1200)


@pytest.mark.parametrize(
    ("p_values", "sizes"),
    [([0.1] * 4, [9] * 4), ([0.1] * 2, [9] * 3), ([0.0, 0.1], [9] * 2), ([0.1, 0.2], [9, 0])],
)
def test_input_that_is_no_run_of_windows_is_refused(
    forms: np.ndarray, p_values: list[float], sizes: list[float]
) -> None:
    with pytest.raises(BadInputError):
        p_value(forms, p_values, sizes, 1200)


def test_a_member_without_a_form_leaves_the_others_say_as_it_is(forms: np.ndarray) -> None:
    peaked = np.concatenate([forms, np.zeros_like(forms[..., :1])], axis=-1)
    p_values, sizes = [0.04, 0.03, 0.2], [100, 80, 120]
    with_it = persistence_p_value(
        p_values, sizes, reference_size=300, forms=peaked, weights=np.array([1.0, 1.0, 2.5])
    )
    assert with_it == pytest.approx(p_value(forms, p_values, sizes, 300), rel=1e-12)
