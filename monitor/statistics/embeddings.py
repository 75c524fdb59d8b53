"""What a set of embeddings must be before anything is computed from it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import EmbeddingsError

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Embeddings: TypeAlias = npt.NDArray[np.floating]


def checked_embeddings(
    embeddings: Embeddings, *, what: str, dimension: int | None = None
) -> Singles:
    """Return the embeddings as contiguous float32, or refuse them by name.

    Parameters
    ----------
    embeddings : floating, shape [n, d], n >= 1, d >= 2
    what : "reference" or "window", for the message
    dimension : the d that is expected, or None

    Raises
    ------
    EmbeddingsError
        If the array is not two-dimensional and floating, has another d, holds NaN or
        infinities (as float32), or if all its rows are the same.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise EmbeddingsError(
            f"the {what}'s embeddings must be floating numbers of shape [scans, dimension], "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    if array.shape[0] < 1 or array.shape[1] < 2:
        raise EmbeddingsError(
            f"the {what}'s embeddings have shape {list(array.shape)}: "
            "need at least one scan and two dimensions"
        )
    if dimension is not None and array.shape[1] != dimension:
        raise EmbeddingsError(
            f"the {what} has {array.shape[1]} dimensions and the reference {dimension}: "
            "embed both with the same encoder and preprocessing"
        )
    with np.errstate(over="ignore"):
        singles = np.ascontiguousarray(array, dtype=np.float32)
    broken = int(np.count_nonzero(~np.isfinite(singles).all(axis=1)))
    if broken:
        raise EmbeddingsError(
            f"{broken} of the {what}'s {len(singles)} embeddings hold NaN or infinities: "
            "look at the encoder's input and precision, and embed these scans again"
        )
    if len(singles) > 1 and bool((singles == singles[0]).all()):
        raise EmbeddingsError(
            f"all {len(singles)} embeddings of the {what} are the same: "
            "the encoder returns a constant, or one scan was added many times"
        )
    return singles
