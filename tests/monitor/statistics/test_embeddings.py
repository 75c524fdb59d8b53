from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.embeddings import (
    checked_embeddings,
    require_few_copies,
    require_variety,
)
from registry.errors import EmbeddingsError


def test_float64_and_float16_become_contiguous_float32() -> None:
    for dtype in (np.float16, np.float64):
        checked = checked_embeddings(np.eye(3, dtype=dtype)[:, ::-1], what="window")
        assert checked.dtype == np.float32
        assert checked.flags.c_contiguous


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "1 of the window's 2 embeddings hold NaN"),
        (np.array([[1.0, np.inf], [0.0, 1.0]]), "NaN or infinities"),
        (np.array([[1e300, 0.0], [0.0, 1.0]]), "NaN or infinities"),
        (np.ones(40), r"shape \[scans, dimension\]"),
        (np.ones((4, 3), dtype=np.int64), "floating"),
        (np.empty((0, 3)), "at least one scan"),
        (np.arange(40.0)[:, None], "two dimensions"),
    ],
)
def test_unusable_embeddings_are_refused_by_name(embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(EmbeddingsError, match=message):
        checked_embeddings(embeddings, what="window")


def test_another_dimension_is_refused() -> None:
    with pytest.raises(EmbeddingsError, match="3 dimensions and the reference 4"):
        checked_embeddings(np.eye(3), what="window", dimension=4)


def test_every_scan_of_many_is_looked_at() -> None:
    many = np.zeros((20_000, 2), dtype=np.float32)
    with pytest.raises(
        EmbeddingsError, match="all 20000 embeddings of the reference are the same"
    ):
        require_variety(many, what="reference")
    many[-1] = 1.0
    require_variety(many, what="reference")
    assert len(checked_embeddings(many, what="reference")) == 20_000
    many[[5, 9000, -1], 1] = np.nan
    with pytest.raises(EmbeddingsError, match="3 of the reference's 20000"):
        checked_embeddings(many, what="reference")


def test_a_reference_of_copies_is_refused_and_a_few_are_not() -> None:
    scans = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    scans[:50] = scans[950:]
    require_few_copies(scans, what="reference")
    scans[50] = scans[951]
    with pytest.raises(
        EmbeddingsError, match="51 of the reference's 1000 embeddings are copies"
    ):
        require_few_copies(scans, what="reference")
    # A window of blank images is a shift that should be judged.
    require_few_copies(scans, what="window")
    scans[:501] = scans[999]
    with pytest.raises(EmbeddingsError, match="of the window's 1000 embeddings are copies"):
        require_few_copies(scans, what="window")


def test_scans_that_differ_in_their_last_bit_are_no_copies() -> None:
    scans = np.ones((40, 3), dtype=np.float32)
    scans[:, 1] = np.nextafter(np.float32(1.0), np.float32(2.0) + np.arange(40) % 2)
    scans[:, 2] = np.arange(40)
    require_few_copies(scans, what="reference")
