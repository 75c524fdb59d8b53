from __future__ import annotations

import math

import numpy as np
import pytest

from registry.bundles.parity import (
    PARITY_TOLERANCE,
    Parity,
    embedding_error,
    logits_error,
    parity_pixels,
)
from registry.bundles.preprocessing import Preprocessing
from registry.errors import ParityError


def record(**errors: float) -> Parity:
    return Parity(errors=errors, tolerance=PARITY_TOLERANCE, graph="g", weights="w")


def test_an_error_at_the_tolerance_passes_and_the_next_above_does_not() -> None:
    assert record(embedding=PARITY_TOLERANCE).error == PARITY_TOLERANCE
    with pytest.raises(ParityError, match="disagree in logits_x"):
        record(embedding=0.0, logits_x=math.nextafter(PARITY_TOLERANCE, 1))
    for bad in (math.nan, math.inf):
        with pytest.raises(ParityError):
            record(embedding=bad)


def test_a_record_without_embedding_says_nothing() -> None:
    with pytest.raises(ParityError, match="does not say"):
        record(logits_x=0.0)


def test_an_embedding_is_judged_on_its_own_scale() -> None:
    exact = np.array([[1e-6, -2e-6]], np.float32)
    assert embedding_error(exact + np.float32(2e-8), exact) == pytest.approx(0.01, rel=1e-3)


def test_logits_near_zero_are_judged_on_a_scale_of_one() -> None:
    exact = np.array([[1e-6, -2e-6]], np.float32)
    assert logits_error(exact + np.float32(1e-5), exact) == pytest.approx(1e-5, rel=1e-3)


def test_what_cannot_be_compared_is_no_parity() -> None:
    ones = np.ones((2, 3), np.float32)
    assert embedding_error(ones, np.ones((2, 4), np.float32)) == math.inf
    assert embedding_error(ones, np.zeros((2, 3), np.float32)) == math.inf
    assert math.isnan(embedding_error(ones * np.float32("nan"), ones))
    assert math.isnan(embedding_error(ones, ones * np.float32("nan")))
    assert embedding_error(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)) == 0.0


def test_pixels_fill_the_range_that_preprocessing_can_produce(
    preprocessing: Preprocessing,
) -> None:
    batches = parity_pixels(preprocessing)
    assert {batch.shape[1:] for batch in batches} == {preprocessing.shape}
    assert {batch.dtype for batch in batches} == {np.dtype(np.float32)}
    every = np.concatenate(batches)
    np.testing.assert_allclose(every.min(axis=(0, 2, 3)), preprocessing.lowest, atol=0.01)
    np.testing.assert_allclose(every.max(axis=(0, 2, 3)), preprocessing.highest, atol=0.01)
    for again, batch in zip(parity_pixels(preprocessing), batches, strict=True):
        np.testing.assert_array_equal(again, batch)
