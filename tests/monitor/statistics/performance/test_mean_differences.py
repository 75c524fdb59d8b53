import numpy as np
import pytest
from scipy.stats import norm

from monitor.statistics.performance.mean_differences import mean_difference
from registry.errors import BadInputError, InsufficientDataError


def test_the_error_is_that_of_a_mean_but_for_half_a_patient_on_each_side() -> None:
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0, 2.0], size=50)
    found = mean_difference(values, step=1.0, level=0.9)
    squares = np.sum((values - values.mean()) ** 2) + 1.0
    assert found.standard_error == pytest.approx(np.sqrt(squares / 49 / 50), rel=1e-12)
    assert found.estimate == pytest.approx(values.mean())
    half = norm.ppf(0.95) * found.standard_error
    assert found.interval.low == pytest.approx(values.mean() - half)
    assert found.p_greater(-0.1) == pytest.approx(
        norm.sf((values.mean() + 0.1) / found.standard_error)
    )


def test_equal_weights_are_none_and_doubled_scans_of_known_patients_say_no_more() -> None:
    values = np.random.default_rng(1).normal(size=40)
    patients = np.arange(40)
    once = mean_difference(values, patients, step=1.0, level=0.9)
    assert (
        mean_difference(values, patients, weights=np.full(40, 3.0), step=1.0, level=0.9) == once
    )
    twice = mean_difference(np.tile(values, 2), np.tile(patients, 2), step=1.0, level=0.9)
    assert twice.standard_error == pytest.approx(once.standard_error)


def test_differences_that_are_all_0_are_not_known_to_be() -> None:
    small, large = (
        mean_difference(np.zeros(n), step=1.0, level=0.9).standard_error for n in (50, 500)
    )
    assert small == pytest.approx(1 / 50, rel=0.02)
    assert small / large == pytest.approx(10.0, rel=0.02)


def test_the_interval_covers_with_weights_and_patients() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        patients = np.repeat(np.arange(60), 2)
        rare = np.repeat(rng.random(60) < 0.5, 2)
        # Half of the patients had a quarter of the chance to be labelled, and lose more.
        values = rng.normal(np.where(rare, -0.3, 0.1), 1.0) + rng.normal(size=60)[patients]
        weights = np.where(rare, 4.0, 1.0)
        truth = (4 * -0.3 + 0.1) / 5
        found = mean_difference(values, patients, weights=weights, step=0.1, level=0.9)
        covered += truth in found.interval
    assert covered / 400 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 400)


def test_one_patient_and_weights_that_are_none_are_refused() -> None:
    with pytest.raises(InsufficientDataError):
        mean_difference([1.0, 0.0], ["a", "a"], step=1.0, level=0.9)
    with pytest.raises(BadInputError, match="finite numbers above 0"):
        mean_difference([1.0, 0.0], weights=[1.0, 0.0], step=1.0, level=0.9)
