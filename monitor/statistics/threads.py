"""One BLAS thread, so that a verdict's bits do not depend on the machine's load.

A matrix product on two threads adds in another order than on one and differs in the last
bits. Statistics therefore run under a limit of one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import scipy.linalg
from threadpoolctl import (  # type: ignore[import-untyped]
    OpenBLASController,
    ThreadpoolController,
)

# The limit belongs to the process: of two overlapping limits, the first to end would
# lift it under the second. So statistics of one process run one after another.
_ONE_AT_A_TIME = threading.RLock()


@cache
def _controller() -> ThreadpoolController:
    # Finding the libraries costs more than a check. Those of numpy and scipy, which alone
    # matter here, are loaded with this package and stay.
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold every BLAS of this process to one thread."""
    with _ONE_AT_A_TIME:
        # While another thread owns OpenBLAS's limit, setting it would silently do nothing.
        OpenBLASController.clear_controlling_thread(force=True)
        with _controller().limit(limits=1):
            yield


def kernels() -> tuple[str, ...]:
    """Return what bit-for-bit agreement depends on: versions, and the BLAS in use.

    Examples
    --------
    >>> kernels()[0].startswith("numpy ")
    True
    """
    # Only the libraries that numpy and scipy bring: others come and go with imports.
    blas = sorted(
        {
            f"{pool['internal_api']} {pool['version']} {pool.get('architecture', 'unknown')}"
            for pool in _controller().info()
            if pool["user_api"] == "blas"
            and any(owner in pool["filepath"] for owner in ("numpy", "scipy"))
        }
    )
    return (f"numpy {np.__version__}", f"scipy {scipy.__version__}", *blas)
