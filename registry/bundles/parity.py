"""Parity of a bundle's two forms: how far apart they were measured, how far they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundles.documents import read_json, write_json
from registry.bundles.onnx_session import EMBEDDING
from registry.bundles.preprocessing import Preprocessing
from registry.canonical import Json
from registry.errors import ParityError

Floats: TypeAlias = NDArray[np.float32]

# Relative to an output's scale. Sums of one deep network in another order
# differ by about 1e-6; embeddings are stored as float16, which rounds by up to
# 5e-4. A fifth of that rounding is far above the first and cannot be seen
# through the second; a wrong constant or layer exceeds it by orders.
PARITY_TOLERANCE = 1e-4

# Two batches, of which neither is the size that the export saw: a batch
# dimension that was frozen into the graph fails on one of them.
PARITY_BATCHES = (1, 5)

# Of the pixels compared. Any would do; it is fixed so that a bundle is
# checked on the same pixels wherever it goes.
PARITY_SEED = 20250


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The measured difference between model.onnx and the weights that it was made from."""

    errors: Mapping[str, float]  #: output -> largest absolute error, over the output's scale
    tolerance: float
    graph: str  #: SHA-256 of the model.onnx that was compared
    weights: str  #: digest of the encoder and the heads that it was compared with

    @property
    def error(self) -> float:
        """The largest error of any output."""
        return max(self.errors.values())

    def __post_init__(self) -> None:
        if EMBEDDING not in self.errors:
            raise ParityError("the parity record does not say how far the embeddings are apart")
        for output, error in self.errors.items():
            if math.isnan(error):
                raise ParityError(
                    f"the encoder returns values that are not finite (nan or infinity) in {output}, "
                    "on pixels of the preprocessing's own range: look at its weights, and at mean "
                    "and std of the preprocessing"
                )
            if not error <= self.tolerance:
                raise ParityError(
                    f"model.onnx and the encoder disagree in {output}: relative error "
                    f"{error:.2g} is above {self.tolerance:.2g}; assemble the bundle again"
                )

    def to_json(self) -> dict[str, Json]:
        """Return the record as it stands in parity.json."""
        return {
            "errors": dict(self.errors),
            "tolerance": self.tolerance,
            "graph": self.graph,
            "weights": self.weights,
        }


def read_parity(path: Path) -> Parity:
    """Return the record in the file `path` (parity.json).

    Raises
    ------
    BundleError
        If the file is not valid or has an unknown key.
    ParityError
        If the record itself is beyond the tolerance.
    """
    section = read_json(path)
    errors = section.section("errors")
    parity = Parity(
        errors={output: errors.number(output) for output in errors.names()},
        # The tolerance is ours: a bundle cannot bring a wider one.
        tolerance=min(section.number("tolerance"), PARITY_TOLERANCE),
        graph=section.text("graph"),
        weights=section.text("weights"),
    )
    section.close()
    return parity


def write_parity(path: Path, parity: Parity) -> None:
    """Write the record to the file `path` (parity.json)."""
    write_json(path, parity.to_json())


def parity_pixels(preprocessing: Preprocessing) -> list[Floats]:
    """Return batches of random pixels in the range that preprocessing can produce.

    Returns
    -------
    list of float32, shape [n, 3, h, w], for each n of PARITY_BATCHES
    """
    rng = np.random.default_rng(PARITY_SEED)
    low = np.asarray(preprocessing.lowest, dtype=np.float32)[:, None, None]
    high = np.asarray(preprocessing.highest, dtype=np.float32)[:, None, None]
    return [
        low + (high - low) * rng.random((n, *preprocessing.shape), dtype=np.float32)
        for n in PARITY_BATCHES
    ]


def embedding_error(measured: Floats, exact: Floats) -> float:
    """Return the largest absolute error, relative to the embedding's largest magnitude.

    Statistics on embeddings do not change with their scale, so the scale is
    taken as it is. NaN, where anything is not finite.
    """
    return _error(measured, exact, least_scale=0.0)


def logits_error(measured: Floats, exact: Floats) -> float:
    """Return the largest absolute error, relative to the largest logit (at least 1).

    A logit's error moves a probability by at most a quarter of it, so small
    logits need no finer comparison than 1 gives.
    """
    return _error(measured, exact, least_scale=1.0)


def _error(measured: Floats, exact: Floats, *, least_scale: float) -> float:
    if measured.shape != exact.shape:
        return math.inf
    scale = max(float(np.abs(exact).max()), least_scale)
    worst = float(np.abs(measured.astype(np.float64) - exact.astype(np.float64)).max())
    return 0.0 if worst == 0.0 else worst / scale if scale else math.inf
