"""Sums of a kernel over pairs of scans, for every split at once and in blocks of rows.

With an indicator h of the window, K the matrix of a kernel with zeros for pairs of one
patient, and 1 a vector of ones, the sums over pairs inside the window, inside the reference
and across follow from h'Kh, h'K1 and 1'K1. So one product of K with the indicators of all
splits serves every permutation, and K is never held whole: rows come in blocks, and as K is
symmetric, a block goes no further to the left than its own rows.

Distances come from float32 products of scans, about a point among them: |x - y|^2 carries
an error of about 1e-6 of the scans' own squared length, and what it drowns counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.exact.splits import Pooled
from monitor.statistics.threads import one_thread
from registry.errors import BadInputError, EmbeddingsError, SetupError

#: Bytes of kernel rows, and of what is computed from them, that are held at once.
MEMORY = 2**28
# Rows at once: on a CPU the kernel's rows stay in its cache, a GPU wants large products.
_CPU_ROWS = 256
_GPU_ROWS = 2048
# Scans whose pairs stand for all pairs, where a median or a mean of distances is wanted.
_SAMPLE = 500
# Scans whose median is the origin.
_FEW = 99
# Of half a squared distance, relative to the scans' median squared length: twice what
# rounding was seen to make of duplicates, at 2 to 4,096 dimensions.
_RESOLUTION = 2.0**-18

#: Replaces -|x - y|^2 / 2, in squared units of length, by the kernel's value, in place.
#: Written for numpy's arrays and torch's alike, whose module comes first. A constant may be
#: subtracted: it leaves no trace in D, and sums of float32 are as exact as values are small.
Kernel: TypeAlias = Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Scans such that one product gives -|x - y|^2 / 2 of every pair."""

    #: [M, d + 2] scans from the origin in units of length, -|x|^2 / 2, 1
    left: Singles
    #: [M, d + 2] the same with the last two in the other order
    right: Singles
    #: root mean square length of the scans from the origin
    unit: float
    #: half the squared distance that is taken for zero, in squared units of length
    floor: float

    @classmethod
    def of(cls, pooled: Pooled, *, rng: np.random.Generator) -> Points:
        """Measure the pooled scans from a point among them, for which rng picks some.

        Raises
        ------
        EmbeddingsError
            If their differences overflow float32.
        """
        embeddings = pooled.embeddings
        scans, dimension = embeddings.shape
        # Unlike the mean, their median stays where most scans are when some are far away.
        few = embeddings[rng.permutation(scans)[:_FEW]]
        with np.errstate(over="ignore", invalid="ignore"):
            centred = embeddings - np.median(few, axis=0)
            squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
        unit = float(np.sqrt(squares.mean()))
        if not 0 < unit < np.inf:
            raise EmbeddingsError("the embeddings' distances overflow or do not vary")
        left = np.ones((scans, dimension + 2), dtype=np.float32)
        np.divide(centred, np.float32(unit), out=left[:, :dimension])
        # Of the rounded scans, so that a scan's distance from itself is zero.
        squares = np.einsum(
            "ij,ij->i", left[:, :dimension], left[:, :dimension], dtype=np.float64
        )
        left[:, dimension] = -0.5 * squares
        right = left.copy()
        right[:, [dimension, dimension + 1]] = left[:, [dimension + 1, dimension]]
        # The median, lest a few scans far away make all others one.
        floor = _RESOLUTION * float(np.median(squares))
        return cls(left=left, right=right, unit=unit, floor=floor)

    def sampled_squared_distances(self, rng: np.random.Generator) -> Floats:
        """Return |x - y|^2 of all pairs of up to 500 random scans, in squared units."""
        rows = rng.permutation(len(self.left))[:_SAMPLE]
        with one_thread():
            half = self.left[rows] @ self.right[rows].T
        pairs = half[np.triu_indices(len(rows), k=1)].astype(np.float64)
        squared: Floats = -2.0 * np.where(pairs < -self.floor, pairs, 0.0)
        return squared


def discrepancies(
    pooled: Pooled,
    points: Points,
    splits: Flags,
    *,
    kernel: Kernel,
    device: str | None,
    memory: int,
) -> Floats:
    """Return D of every split, [1 + B], in the kernel's units.

    Parameters
    ----------
    pooled : M scans of P patients
    points : the same scans
    splits : [P, 1 + B] patients in the window
    kernel : in place of -|x - y|^2 / 2
    device : None for numpy, or torch's name of a device
    memory : bytes of kernel values held at once

    Raises
    ------
    BadInputError
        If memory is not positive, or torch knows no device of this name.
    SetupError
        If torch does not see the device.
    """
    if memory < 1:
        raise BadInputError(f"memory must be at least 1 byte, got {memory}")
    patients = pooled.patients
    # A last column of ones, for the sums over whole rows.
    indicators = np.ones((len(patients.codes), splits.shape[1] + 1), dtype=np.float32)
    indicators[:, :-1] = splits[patients.codes]
    arrays = (points.left, points.right, indicators, patients.codes)
    # Of a row: values and flags, then products with the indicators, twice.
    row_bytes = 5 * len(indicators) + 2 * 4 * indicators.shape[1]
    rows = max(1, min(memory // row_bytes, _CPU_ROWS if device is None else _GPU_ROWS))
    sums = partial(_sums, ends=np.cumsum(patients.scans), floor=points.floor, kernel=kernel)
    if device is None:
        with one_thread():
            inside, rowwise = sums(np, *arrays, rows=rows)
    else:
        with _torch_on(device) as torch:
            moved = [torch.from_numpy(array).to(device) for array in arrays]
            inside, rowwise = (array.cpu().numpy() for array in sums(torch, *moved, rows=rows))
    scans = patients.scans.astype(np.float64)
    window, own = scans @ splits, np.square(scans) @ splits
    reference, other = scans.sum() - window, np.square(scans).sum() - own
    # In order h'Kh, h'K1 and 1'K1.
    within, across, whole = inside[:-1], rowwise[:-1], rowwise[-1]
    discrepancies: Floats = (
        within / (window**2 - own)
        + (whole - 2.0 * across + within) / (reference**2 - other)
        - 2.0 * (across - within) / (window * reference)
    )
    return discrepancies


def _sums(
    xp: Any,
    left: Any,
    right: Any,
    indicators: Any,
    codes: Any,
    *,
    rows: int,
    ends: Integers,
    floor: float,
    kernel: Kernel,
) -> tuple[Any, Any]:
    """Return h'Kh and h'K1 of every indicator h, [1 + B + 1] each, in float64.

    Parameters
    ----------
    xp : numpy or torch, whose arrays the others are
    left, right : [M, d + 2] see `Points`
    indicators : [M, 1 + B + 1], the last of ones
    codes : [M] rising numbers of the scans' patients
    rows : scans at once
    ends : [P] where each patient's scans end
    floor, kernel : see `Points` and `discrepancies`
    """
    inside = rowwise = 0.0
    for start in range(0, len(left), rows):
        stop = min(start + rows, len(left))
        block = left[start:stop] @ right[start:].T
        block *= block < -floor
        kernel(xp, block)
        # Only these columns hold scans of the rows' patients.
        reach = int(ends[np.searchsorted(ends, stop - 1, side="right")])
        block[:, : reach - start] *= codes[start:stop, None] != codes[None, start:reach]
        # Pairs to the right stand for two, those among the rows themselves are all here.
        block[:, : stop - start] *= 0.5
        products = block @ indicators[start:]
        del block
        own = indicators[start:stop]
        rowwise = rowwise + products.sum(0, dtype=xp.float64)
        rowwise = rowwise + (own * products[:, -1:]).sum(0, dtype=xp.float64)
        products *= own
        inside = inside + 2.0 * products.sum(0, dtype=xp.float64)
    return inside, rowwise


@contextmanager
def _torch_on(device: str) -> Iterator[Any]:
    """Yield torch, held to one thread and to plain float32 products.

    Raises
    ------
    BadInputError, SetupError
        If torch knows no such device, or sees none.
    """
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise BadInputError(f"torch knows no device {device!r}: say cuda, or cpu") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise SetupError(f"device {device} cannot be had: torch sees no GPU; pass device=None")
    # Ten bits of the mantissa, as TF32 keeps, would drown the differences of kernels.
    backends: Any = torch.backends
    settings = (backends.cuda.matmul, backends.mkldnn.matmul)
    precisions = [setting.fp32_precision for setting in settings]
    # Asked before the limit, which may hold torch's OpenMP, too.
    threads = torch.get_num_threads()
    with one_thread():
        try:
            torch.set_num_threads(1)
            for setting in settings:
                setting.fp32_precision = "ieee"
            yield torch
        finally:
            for setting, precision in zip(settings, precisions, strict=True):
                setting.fp32_precision = precision
            torch.set_num_threads(threads)
