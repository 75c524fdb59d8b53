"""What a check costs: CPU seconds on one thread and peak memory, tests in turn.

Every test runs in a process of its own, which is asked in rounds: each test once, then
each again. Imports and fits are not counted; a first check that is not counted either lets
libraries set themselves up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import started
from results import Results
from worlds import worlds

#: scans in the reference and in the window
SIZES = ((2000, 200), (5000, 500), (50000, 200))
_MMD = ("alibi-mmd", "torchdrift-mmd", "exact-mmd")
TESTS = {
    (2000, 200): (
        "portfolio",
        *_MMD,
        "alibi-ks",
        "alibi-lsdd",
        "alibi-classifier",
        "nannyml-pca",
        "evidently-model",
        "evidently-ratio",
        "evidently-mmd",
        "evidently-distance",
    ),
    (5000, 500): ("portfolio", "exact-mmd", "alibi-mmd", "nannyml-pca"),
    (50000, 200): ("portfolio", "nannyml-pca"),
}


def measure(key: str, *, rounds: int) -> dict[str, Any]:
    """Return each test's seconds of every round, of its fit, and its peak memory in GB."""
    reference, window = map(int, key.split("/"))
    tests = TESTS[reference, window]
    world = next(iter(worlds().values()))
    rng = np.random.default_rng(reference)
    scans = world.scans(reference, rng)
    seconds: dict[str, list[float]] = {test: [] for test in tests}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = {test: stack.enter_context(started(test, Path(folder))) for test in tests}
        fits = {test: one.fit(scans)["seconds"] for test, one in running.items()}
        for turn in range(rounds + 1):
            current = world.scans(window, rng)
            for test, one in running.items():
                took = one.check(current)["seconds"]
                if turn > 0:
                    seconds[test].append(took)
        peaks = {test: one.peak_gb() for test, one in running.items()}
    return {"fit": fits, "check": seconds, "peak_gb": peaks}


def run(*, rounds: int, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """Measure every size that lacks."""
    keys = [f"{reference}/{window}" for reference, window in sizes]
    Results("speed").measure(keys, partial(measure, rounds=rounds))
