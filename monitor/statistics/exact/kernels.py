"""Exact tests of all pairs of scans: maximum mean discrepancy and energy distance.

Both are the same U-statistic, with a kernel k, over pairs of scans of different patients,

    D = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),

x in the window and y in the reference (Sejdinovic et al. 2013, *Ann. Statist.*
41:2263-2291). It is unbiased, so it may be negative. Work grows with the square of the
scans; the portfolio's Fourier features estimate the same in linear time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from monitor.statistics.embeddings import Embeddings, Flags, Floats
from monitor.statistics.exact.pair_sums import MEMORY, Points, discrepancies
from monitor.statistics.exact.splits import (
    ExactTest,
    Pooled,
    permutation_p_value,
    permuted_splits,
)
from monitor.statistics.patients import Identifiers
from registry.errors import BadInputError

# Relative to the kernel's mean: what rounding of the kernel's values makes of a tie.
_TIE = 5e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class MMDTest(ExactTest):
    """An exact test of the squared maximum mean discrepancy."""

    #: sigma of exp(-|x - y|^2 / 2 sigma^2), in embedding units
    bandwidth: float


def mmd_test(
    reference: Embeddings,
    window: Embeddings,
    *,
    reference_patients: Identifiers | None = None,
    window_patients: Identifiers | None = None,
    bandwidth: float | None = None,
    permutations: int = 999,
    seed: int = 0,
    device: str | None = None,
    memory: int = MEMORY,
) -> MMDTest:
    """Test by the unbiased squared maximum mean discrepancy under a Gaussian kernel.

    Gretton et al. (2012), JMLR 13:723-773, eq. 3, with pairs of scans of one patient left
    out: without identifiers that is eq. 3 itself. The p-value permutes whole patients and
    compares D / (1/n + 1/N), since scans per split vary.

    Parameters
    ----------
    reference : floating, shape [N, d]
    window : floating, shape [n, d]
    reference_patients, window_patients : [N], [n] identifiers; without, scans are patients
    bandwidth : sigma, in embedding units; None for the median heuristic, the median
        distance between up to 500 random scans of reference and window together
    permutations : random splits
    seed : of splits and sample
    device : None for numpy, or torch's name of a device, say "cuda"
    memory : bytes of kernel values held at once. Held besides, in float32: the scans twice,
        and an indicator of each scan for each split

    Raises
    ------
    EmbeddingsError
        If a group's embeddings or identifiers cannot be used.
    InsufficientDataError
        If a group has fewer than two scans or patients.
    BadInputError
        If a patient has scans in both groups, or an option is out of range.
    SetupError
        If torch does not see the device.
    """
    pooled = Pooled.of(reference, window, reference_patients, window_patients)
    sampling, splitting = np.random.default_rng(seed).spawn(2)
    points = Points.of(pooled, rng=sampling)
    squared = points.sampled_squared_distances(sampling)
    sigma = _median_distance(squared) if bandwidth is None else bandwidth / points.unit
    # Below it, sigma is among distances that are taken for zero.
    least = float(np.sqrt(2.0 * points.floor))
    if not least < sigma < np.inf:
        raise BadInputError(
            f"bandwidth {bandwidth} cannot be used: it must be finite and above "
            f"{least * points.unit:.3g}, below which float32 tells no distances"
        )
    gain = 1.0 / sigma**2
    mean = float(np.exp(-0.5 * gain * squared).mean())
    splits = permuted_splits(pooled.window, permutations=permutations, rng=splitting)
    statistics = discrepancies(
        pooled,
        points,
        splits,
        kernel=partial(_gaussian, gain=gain, mean=mean),
        device=device,
        memory=memory,
    )
    return MMDTest(
        statistic=float(statistics[0]),
        p_value=_p_value(pooled, splits, statistics, scale=mean),
        permutations=permutations,
        bandwidth=sigma * points.unit,
    )


def energy_test(
    reference: Embeddings,
    window: Embeddings,
    *,
    reference_patients: Identifiers | None = None,
    window_patients: Identifiers | None = None,
    permutations: int = 999,
    seed: int = 0,
    device: str | None = None,
    memory: int = MEMORY,
) -> ExactTest:
    """Test by the energy distance, 2 E|x - y| - E|x - x'| - E|y - y'|.

    Székely & Rizzo (2013), *J. Stat. Plan. Inference* 143:1249-1272, here over pairs of
    scans of different patients. Their own E_{n,m} counts each scan's distance 0 from
    itself, too, and so is larger by mean|x - x'| / n + mean|y - y'| / N. The p-value
    permutes whole patients and compares D / (1/n + 1/N), as theirs does.

    Parameters and errors are those of `mmd_test`; the statistic is in embedding units.
    """
    pooled = Pooled.of(reference, window, reference_patients, window_patients)
    sampling, splitting = np.random.default_rng(seed).spawn(2)
    points = Points.of(pooled, rng=sampling)
    mean = float(np.sqrt(points.sampled_squared_distances(sampling)).mean())
    splits = permuted_splits(pooled.window, permutations=permutations, rng=splitting)
    statistics = discrepancies(
        pooled,
        points,
        splits,
        kernel=partial(_negative_distance, mean=-mean),
        device=device,
        memory=memory,
    )
    return ExactTest(
        statistic=float(statistics[0]) * points.unit,
        p_value=_p_value(pooled, splits, statistics, scale=mean),
        permutations=permutations,
    )


def _gaussian(xp: Any, block: Any, *, gain: float, mean: float) -> None:
    block *= gain
    xp.exp(block, out=block)
    block -= mean


def _negative_distance(xp: Any, block: Any, *, mean: float) -> None:
    xp.abs(block, out=block)
    xp.sqrt(block, out=block)
    block *= -np.sqrt(2.0).item()
    block -= mean


def _median_distance(squared: Floats) -> float:
    median = float(np.sqrt(np.median(squared)))
    # More than half of the pairs are duplicates: one unit of length is as good.
    return median if median > 0 else 1.0


def _p_value(pooled: Pooled, splits: Flags, statistics: Floats, *, scale: float) -> float:
    counts = pooled.patients.scans.astype(np.float64)
    inside = counts @ splits
    return permutation_p_value(
        statistics / (1.0 / inside + 1.0 / (counts.sum() - inside)), tolerance=_TIE * scale
    )
