"""What a set of embeddings must be before anything is computed from it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import EmbeddingsError

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Embeddings: TypeAlias = npt.NDArray[np.floating]

# Copies that a set of embeddings may hold. Ties in the reference make rejections of windows
# that have none. A window of copies is a shift (blank images, one scan sent many times): whoever
# asks for a verdict on it gets one, and whoever does not is told of it.
_MOST_COPIES = {"reference": 0.05, "window": 0.5}
# Scans looked at together, so that a million need little memory.
_CHUNK = 8192


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
        If the array is not two-dimensional and floating, has another d, or holds NaN or
        infinities (as float32).
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
    broken = sum(
        int(np.count_nonzero(~np.isfinite(singles[i : i + _CHUNK]).all(axis=1)))
        for i in range(0, len(singles), _CHUNK)
    )
    if broken:
        raise EmbeddingsError(
            f"{broken} of the {what}'s {len(singles)} embeddings hold NaN or infinities: "
            "look at the encoder's input and precision, and embed these scans again"
        )
    return singles


def require_variety(singles: Singles, *, what: str) -> None:
    """Refuse scans [n, d] that are all the same.

    Raises
    ------
    EmbeddingsError
        Of two scans or more.
    """
    if len(singles) > 1 and all(
        bool((singles[i : i + _CHUNK] == singles[0]).all())
        for i in range(0, len(singles), _CHUNK)
    ):
        raise EmbeddingsError(
            f"all {len(singles)} embeddings of the {what} are the same: "
            "the encoder returns a constant, or one scan was added many times"
        )


def require_few_copies(singles: Singles, *, what: str) -> None:
    """Refuse scans [n, d] of which too many repeat others.

    Raises
    ------
    EmbeddingsError
        If more than 5 % of a reference's rows, or half of a window's, are copies.
    """
    require_variety(singles, what=what)
    copies = len(singles) - len(np.unique(row_digests(singles)))
    if copies > _MOST_COPIES[what] * len(singles):
        raise EmbeddingsError(
            f"{copies} of the {what}'s {len(singles)} embeddings are copies of others: scans "
            "were added more than once, or are blank; leave them out"
        )


def row_digests(singles: Singles) -> npt.NDArray[np.uint64]:
    """Return a number for each row, [n]: the same for the same bits."""
    odd = (
        np.random.default_rng(0).integers(2**63, size=singles.shape[1], dtype=np.uint64) * 2 + 1
    )
    digests = np.empty(len(singles), dtype=np.uint64)
    for i in range(0, len(singles), _CHUNK):
        words = singles[i : i + _CHUNK].view(np.uint32)
        # Modulo 2^64, in whatever order: integers do not round.
        digests[i : i + _CHUNK] = np.einsum("ij,j->i", words, odd, dtype=np.uint64)
    return digests
