"""Whether the exact MMD gives the p-values that its peers give, on the same inputs.

Small inputs, so that the slowest peer can permute, with the peer's own bandwidth. Shifts
grow from none, so that p-values of all sizes come up. Two Monte Carlo estimates of one
p-value differ by more than three standard errors in 0.3 % of cases.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import started
from results import Results
from scipy.spatial.distance import cdist, pdist

from monitor.statistics.exact.kernels import mmd_test

REFERENCE, WINDOW, DIMENSION = 200, 40, 24
PERMUTATIONS = {"alibi-mmd": 1000, "torchdrift-mmd": 1000, "frouros-mmd": 200}


def measure(test: str, *, inputs: int) -> dict[str, Any]:
    """Return the peer's p-values, ours, and their distances in standard errors."""
    permutations = PERMUTATIONS[test]
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(inputs):
            rng = np.random.default_rng(number)
            scales = 1.0 / np.sqrt(np.arange(1, DIMENSION + 1))
            reference = (rng.normal(size=(REFERENCE, DIMENSION)) * scales).astype(np.float32)
            window = (rng.normal(size=(WINDOW, DIMENSION)) * scales).astype(np.float32)
            window += np.float32(0.02 * (number % 8))
            with started(test, Path(folder), permutations=permutations) as peer:
                peer.fit(reference)
                answer = peer.check(window)
            exact = mmd_test(
                reference,
                window,
                bandwidth=_bandwidth(test, reference, window, answer),
                permutations=4000,
                seed=number,
            )
            theirs.append(answer["p_value"])
            ours.append(exact.p_value)
    p, q = np.array(ours), np.array(theirs)
    error = np.sqrt(
        np.maximum(p * (1.0 - p), 1.0 / permutations) * (1 / permutations + 1 / 4000)
    )
    return {"theirs": theirs, "ours": ours, "distances": (np.abs(p - q) / error).tolist()}


def _bandwidth(
    test: str, reference: np.ndarray, window: np.ndarray, answer: dict[str, Any]
) -> float:
    if test == "alibi-mmd":
        return float(answer["sigma"])
    if test == "torchdrift-mmd":
        pooled = np.concatenate([reference, window])
        distances = np.sort(cdist(pooled, pooled).ravel())
        # torch's median is the lower one of two.
        return float(distances[(len(distances) - 1) // 2])
    return float(np.median(pdist(reference[:500])))


def run(*, inputs: int) -> None:
    """Measure every peer that lacks."""
    Results("agreement").measure(PERMUTATIONS, partial(measure, inputs=inputs))
