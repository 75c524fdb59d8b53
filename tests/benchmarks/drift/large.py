"""Fitting a profile on many scans: seconds a row, and the peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from results import Results
from worlds import worlds

SIZES = (50_000, 1_000_000)
_CHUNK = 50_000

_FIT = """
import json, resource, sys, time
import numpy as np
from monitor.profiles import ReferenceProfile
embeddings = np.load(sys.argv[1], mmap_mode="r")
ReferenceProfile.fit(np.asarray(embeddings[:500]))
before = time.process_time()
ReferenceProfile.fit(embeddings)
seconds = time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": seconds, "peak_gb": peak}))
"""


def measure(key: str) -> dict[str, float]:
    """Fit so many scans once in a process of its own, the embeddings in a file."""
    scans = int(key)
    world = next(iter(worlds().values()))
    rng = np.random.default_rng(scans)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npy"
        array = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(scans, world.dimension)
        )
        for start in range(0, scans, _CHUNK):
            array[start : start + _CHUNK] = world.scans(min(_CHUNK, scans - start), rng)
        array.flush()
        del array
        output = subprocess.run(
            [sys.executable, "-c", _FIT, str(path)], check=True, capture_output=True, text=True
        ).stdout
    facts: dict[str, float] = json.loads(output)
    return facts


def run() -> None:
    """Measure every size that lacks."""
    Results("large").measure(map(str, SIZES), measure)
