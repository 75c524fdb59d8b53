"""What an encoder must do to be of use: an embedding of each scan, by that scan alone."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundles.bundle import Bundle
from registry.bundles.onnx_session import (
    EMBEDDING,
    available_cores,
    graph_outputs,
    open_session,
)
from registry.bundles.parity import embedding_error, parity_pixels
from registry.errors import BundleError

Floats: TypeAlias = NDArray[np.float32]

#: Relative to the embedding's scale; twice what storing it as float16 rounds by. Batches of other
#: sizes are summed in another order, which is far less.
BATCH_TOLERANCE = 1e-3


def require_own_embeddings(bundle: Bundle) -> None:
    """Refuse an encoder that tells no scans apart, or mixes those of one batch.

    Raises
    ------
    BundleError
        Saying which of the two, and what may have brought it about.
    """
    pixels = _unlike_scans(bundle)
    session = open_session(bundle.graph(), threads=available_cores())
    together = graph_outputs(session, pixels)[EMBEDDING]
    alone = np.concatenate(
        [graph_outputs(session, one[np.newaxis])[EMBEDDING] for one in pixels]
    )
    apart = embedding_error(alone, together)
    if not apart <= BATCH_TOLERANCE:
        raise BundleError(
            f"the encoder of {bundle.card.name} embeds a scan otherwise when other scans are in "
            f"its batch (relative difference {apart:.2g}, at most {BATCH_TOLERANCE:g}): export it "
            "in evaluation mode, without anything that is reckoned over the batch"
        )
    # As embeddings are stored: what that rounding levels cannot be told apart later.
    with np.errstate(over="ignore"):
        stored = together.astype(np.float16)
    if (stored == stored[0]).all():
        raise BundleError(
            f"the encoder of {bundle.card.name} gives every scan the same embedding: nothing can "
            "be monitored by it; look at its weights, at which output is the embedding, and at "
            "mean and std of the preprocessing"
        )


def _unlike_scans(bundle: Bundle) -> Floats:
    """Return pixels of a few scans that differ in pattern and in brightness."""
    pixels = parity_pixels(bundle.preprocessing)[-1]
    low = np.asarray(bundle.preprocessing.lowest, dtype=np.float32)[:, None, None]
    shares = np.linspace(1 / len(pixels), 1, len(pixels), dtype=np.float32)
    unlike: Floats = low + (pixels - low) * shares[:, None, None, None]
    return unlike
