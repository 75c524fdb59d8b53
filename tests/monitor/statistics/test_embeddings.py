from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.embeddings import checked_embeddings
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
        (np.ones((40, 3)), "all 40 embeddings of the window are the same"),
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
