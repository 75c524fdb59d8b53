from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.effect import Shift, shift_length, smallest_shift


@pytest.mark.parametrize("true", [0.0, 0.15, 0.4, 1.5])
def test_the_interval_of_a_shift_covers_it(true: float) -> None:
    rng = np.random.default_rng(2)
    n, p, covered = 200, 16, 0
    for _ in range(600):
        x = rng.normal(size=(n, p))
        x[:, 0] += true
        mean = x.mean(axis=0)
        squared = (mean @ mean * n**2 - np.square(x).sum()) / (n * (n - 1))
        along = (x - mean) @ mean
        shift = shift_length(
            squared,
            linear_variance=float(np.square(along).sum() / n**2),
            null_variance=2 * p / n**2,
        )
        covered += shift.low <= true <= shift.high
    # 95 % within four binomial deviations below; more where the length ends at zero.
    assert covered / 600 > 0.914


def test_no_shift_is_a_length_of_zero_and_not_a_negative_one() -> None:
    shift = shift_length(-0.01, linear_variance=0.0, null_variance=1e-6)
    assert shift == Shift(value=0.0, low=0.0, high=0.0)


def test_a_value_outside_its_interval_is_no_shift() -> None:
    with pytest.raises(ValueError, match="not an interval"):
        Shift(value=0.1, low=0.2, high=0.3)


@pytest.mark.parametrize(("n", "p"), [(50, 4), (200, 16), (200, 64)])
def test_the_smallest_shift_is_found_with_its_power(n: int, p: int) -> None:
    rng = np.random.default_rng(3)

    def statistics(shift: float) -> np.ndarray:
        means = rng.normal(size=(20_000, p)) / np.sqrt(n)
        means[:, 0] += shift
        # Gaussian means of whitened coordinates, scaled as directions: 1/p each.
        return (np.square(means).sum(axis=1) - p / n) / p * n

    null = statistics(0.0)
    moments = {"deviation": null.std(), "skewness": float(np.sqrt(8 / p))}
    smallest = smallest_shift(
        alpha=0.05, power=0.8, inverse_size=1 / n, directions=p, **moments
    )
    power = float((statistics(smallest) > np.quantile(null, 0.95)).mean())
    assert power == pytest.approx(0.8, abs=0.02)
