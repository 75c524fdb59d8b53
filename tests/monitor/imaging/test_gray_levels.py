from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.imaging.gray_levels import GrayLevels


def rescaled(slope: float, intercept: float) -> Any:
    def values_of(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return (samples.astype(np.float64) * slope + intercept).astype(np.float32)

    return values_of


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    dtype=st.sampled_from(("u1", "i1", "u2", "i2")),
    spread=st.sampled_from((1, 3, 50, 2000, 2**15)),
    slope=st.sampled_from((1.0, 0.37, -2.5, 1e-4)),
    intercept=st.sampled_from((0.0, -1024.0, 1e6)),
    low=st.floats(0, 50),
    high=st.floats(50.001, 100),
)
def test_percentiles_are_numpy_s_to_the_last_bit(
    seed: int,
    shape: tuple[int, int],
    dtype: str,
    spread: int,
    slope: float,
    intercept: float,
    low: float,
    high: float,
) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, spread, shape).astype(np.int64).astype(dtype)
    values_of = rescaled(slope, intercept)
    expected = np.percentile(values_of(samples), (low, high))
    found = GrayLevels(samples=samples, values_of=values_of, monotone=True).percentiles(
        low, high
    )
    assert found == (float(expected[0]), float(expected[1]))


@pytest.mark.parametrize("ends", [(0, 100), (1, 99), (0.5, 99.5), (50, 100)])
def test_a_large_image_is_counted_in_blocks(ends: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(2000, 300, (1100, 1024)).clip(0, 4095).astype(np.uint16)
    values_of = rescaled(1.0, 0.0)
    levels = GrayLevels(samples=samples[:, ::-1], values_of=values_of, monotone=True)
    expected = np.percentile(values_of(samples), ends)
    assert levels.percentiles(*ends) == (float(expected[0]), float(expected[1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_padding_takes_no_part(dtype: Any, slope: float) -> None:
    samples = np.random.default_rng(4).integers(1, 120, (400, 300)).astype(dtype)
    samples[:50] = 0
    padding = samples == 0
    values_of = rescaled(slope, 3.0)
    levels = GrayLevels(samples=samples, values_of=values_of, monotone=True)
    seen = values_of(samples[~padding])
    assert levels.extremes(padding) == (float(seen.min()), float(seen.max()))
    expected = np.percentile(seen, (2, 98))
    assert levels.percentiles(2, 98, padding) == (float(expected[0]), float(expected[1]))


def test_a_table_that_does_not_rise_is_sorted_by_its_values() -> None:
    table = np.random.default_rng(2).permutation(256).astype(np.float32)
    samples = np.random.default_rng(3).integers(20, 230, (300, 300)).astype(np.uint8)
    levels = GrayLevels(samples=samples, values_of=lambda some: table[some], monotone=False)
    expected = np.percentile(table[samples], (3, 97))
    assert levels.percentiles(3, 97) == (float(expected[0]), float(expected[1]))
    values = table[samples]
    assert levels.extremes() == (float(values.min()), float(values.max()))
