"""The drift tests that are compared, and the environments they live in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
#: where the peers' environments are built, beside the project's own
ENVIRONMENTS = Path(os.environ.get("PEERS", REPOSITORY / ".peers"))


def interpreter(test: str) -> Path:
    """Return the Python that holds a test: ours, or that of the peer it is named after."""
    peer = test.split("-", 1)[0]
    if not (HERE / "peers" / f"{peer}.txt").exists():
        return Path(sys.executable)
    return ENVIRONMENTS / peer / "bin" / "python"


class Test:
    """A drift test that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._written = process, folder, 0

    def fit(self, reference: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Give the test its reference; return what it took."""
        return self._ask("fit", self._file(reference))

    def check(self, window: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Return p-value, score and CPU seconds of a check."""
        return self._ask("check", self._file(window))

    def peak_gb(self) -> float:
        """Return the largest resident memory so far, in GB."""
        return float(self._ask("peak", True)["peak_gb"])

    def _file(self, array: npt.NDArray[np.float32]) -> str:
        self._written += 1
        path = self._folder / f"{self._process.pid}-{self._written}.npy"
        np.save(path, array)
        return str(path)

    def _ask(self, what: str, about: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({what: about}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if isinstance(about, str):
            Path(about).unlink()
        if not answer:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        document: dict[str, Any] = json.loads(answer)
        return document


@contextmanager
def started(name: str, folder: Path, *, permutations: int = 100) -> Iterator[Test]:
    """Start a test's process; it ends with the block."""
    process = subprocess.Popen(
        [str(interpreter(name)), str(HERE / "worker.py"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={**os.environ, "PERMUTATIONS": str(permutations)},
    )
    try:
        yield Test(process, folder)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(timeout=600)
