"""Processes beside a replay: they find out ahead of it what does not hang on what it does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

#: A replay of fewer scans is over before a process has begun.
WORTH_A_PROCESS = 5000
#: The replay itself is what everybody waits for: what runs beside it makes way.
_NICER = 5


class Processes:
    """Those of one replay, which end with it."""

    def __init__(self) -> None:
        self._all: list[SpawnProcess] = []

    def begin(self, work: Callable[[Connection], None]) -> Connection:
        """Begin a process, and return the end of a pipe to it."""
        # Not forked: of a process with open databases and threads nothing is to be taken along.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_live, args=(work, theirs), daemon=True)
        process.start()
        theirs.close()
        self._all.append(process)
        return ours

    def end(self) -> None:
        for process in self._all:
            process.kill()
        for process in self._all:
            process.join()


def _live(work: Callable[[Connection], None], connection: Connection) -> None:
    """Do a process's work, and end at once when whoever began it is gone."""
    # Who interrupts means the replay, which ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICER)
    try:
        work(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody asks any more


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def processes_beside(scans: int) -> Iterator[Processes | None]:
    """Let a replay of so many scans begin processes; None where they would gain nothing."""
    if scans < WORTH_A_PROCESS or (os.cpu_count() or 1) < 2:
        yield None
        return
    processes = Processes()
    try:
        yield processes
    finally:
        processes.end()
