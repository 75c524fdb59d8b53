"""When Python looks for objects that only name each other, while rows are made by the million."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: Objects more than before, and rounds of the younger, after which each age is looked through:
#: Python's own 700 would have it walk through all that is there again and again.
_THRESHOLDS = (100_000, 50, 50)


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Let the garbage collector look rarely."""
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep what stands now out of the garbage collector's rounds.

    A past is some million objects that stay to the end, and each round would walk all of them.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
