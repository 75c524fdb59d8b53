"""A verdict is the same to the bit on one machine, and to 1e-5 on another kind of processor.

Another processor is stood in for by another kernel of OpenBLAS, which adds in another order.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

VERDICT = """
import json
import numpy as np
from threadpoolctl import threadpool_info
from monitor.profiles import ReferenceProfile

rng = np.random.default_rng(5)
scales = 1.0 / np.sqrt(np.arange(1, 65))
reference = (rng.normal(size=(400, 64)) * scales).astype(np.float32)
window = (0.06 + rng.normal(size=(90, 64)) * scales).astype(np.float32)
verdict = ReferenceProfile.fit(reference, seed=3).check(window)
kernels = sorted({pool.get("architecture", "") for pool in threadpool_info()})
print(json.dumps({
    "kernels": kernels,
    "p_value": verdict.p_value,
    "effect": verdict.effect.value,
    "smallest": verdict.smallest_effect,
    "detectors": {name: [one.p_value, one.statistic]
                  for name, one in verdict.detectors.items()},
}))
"""


def verdict(**environment: str) -> dict[str, object]:
    output = subprocess.run(
        [sys.executable, "-c", VERDICT],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    document: dict[str, object] = json.loads(output)
    return document


@pytest.fixture(scope="module")
def usual() -> dict[str, object]:
    return verdict()


def test_bits_do_not_depend_on_the_threads_that_are_offered(usual: dict[str, object]) -> None:
    threads = {f"{pool}_NUM_THREADS": "4" for pool in ("OMP", "OPENBLAS", "MKL")}
    assert verdict(**threads) == usual


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kernels of x86-64")
def test_another_processor_gives_the_same_verdict_to_1e_5(usual: dict[str, object]) -> None:
    other = verdict(OPENBLAS_CORETYPE="Sandybridge")
    assert other["kernels"] != usual["kernels"], "the other kernel was not used"
    for what in ("p_value", "effect", "smallest"):
        assert other[what] == pytest.approx(usual[what], rel=1e-5)
    detectors, others = usual["detectors"], other["detectors"]
    assert isinstance(detectors, dict)
    assert isinstance(others, dict)
    assert detectors.keys() == others.keys()
    for name, numbers in detectors.items():
        # A statistic is a small difference of large sums: its error is that of the sums.
        assert others[name] == pytest.approx(numbers, rel=1e-4, abs=1e-5), name
