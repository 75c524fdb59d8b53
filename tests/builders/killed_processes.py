"""Work that is killed at a crash point, in a process of its own that finds its libraries loaded."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable

from registry import crash_points

_FORKED = multiprocessing.get_context("fork")
_SECONDS = 120.0


def kill_at(point: str, work: Callable[[], object], *, after: int = 0) -> None:
    """Do work in a process that is killed at a point, and wait for its end.

    Parameters
    ----------
    work : opens whatever it uses by itself: nothing open is shared with this process
    after : how often the point is passed unharmed before

    Raises
    ------
    AssertionError
        If the point was not reached.
    """

    def armed() -> None:
        crash_points.arm(point, after=after)
        work()

    process = _FORKED.Process(target=armed)
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"{point} was not reached within {_SECONDS:.0f} s")
    if process.exitcode != -signal.SIGKILL:
        raise AssertionError(f"{point} was not reached: it ended with {process.exitcode}")
