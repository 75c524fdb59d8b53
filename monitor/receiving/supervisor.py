"""The receiver's parent: starts its processes, starts them again, and ends them together."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TypeAlias

import structlog

from monitor.receiving.counters import Counted, Counters
from monitor.receiving.receiver import listening_socket, serve
from monitor.receiving.settings import ReceiverSettings
from monitor.scans import ScanIntake
from registry.errors import DriftwardError, PortInUseError, SetupError

log = structlog.get_logger(__name__)

_MOST_PROCESSES = 4
#: A process that lived shorter than this is started again only after as long.
_SHORT_LIFE_SECONDS = 2.0
_LONGEST_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1  # prctl(2)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: What one process does until it is told to stop.
Work: TypeAlias = Callable[[], None]


def process_count(settings: ReceiverSettings) -> int:
    """Return how many processes share the port."""
    return settings.processes or min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))


def run(
    settings: ReceiverSettings,
    *,
    intake: Callable[[], ScanIntake],
    listening: Callable[[int], None],
    counters: Counters,
    beside: Sequence[Work] = (),
) -> None:
    """Receive until SIGTERM or SIGINT, in processes of their own.

    A process that dies is started anew; what it had acknowledged is stored.

    Parameters
    ----------
    intake : opens what instances are stored with; called in each process
    listening : told the port once senders may come
    counters : with a row for each process
    beside : what else runs, each in one more process

    Raises
    ------
    PortInUseError
        If another program has the port.
    """
    try:
        # Bound but never listened on: it holds the port while processes come and go.
        reserved = listening_socket(settings, port=settings.port, joins=False)
    except OSError as error:
        raise PortInUseError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}): "
            "choose another with --port, or stop what holds it"
        ) from error
    port: int = reserved.getsockname()[1]

    def receiving(number: int) -> Work:
        def work() -> None:
            counters.settle(number)
            serve(settings, port=port, intake=intake, counters=counters.row(number))

        return work

    works = [receiving(number) for number in range(process_count(settings))]
    with reserved:
        Supervisor([*works, *beside]).run(
            is_ready=lambda: counters.totals().counts[Counted.LISTENING] == len(works),
            ready=lambda: listening(port),
            beat=counters.beat,
        )


def end_with(parent: int) -> None:
    """Have this process told to stop when its parent dies, however that dies.

    Else it would go on taking scans, for a home and by rules that nobody sees any more.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it died before this was asked for


class Supervisor:
    """Keeps processes alive until it is told to stop."""

    def __init__(self, works: Sequence[Work]) -> None:
        # Forked, so that libraries are loaded once and their memory is shared.
        self._context = multiprocessing.get_context("fork")
        self._works = list(works)
        self._processes: list[ForkProcess] = []
        self._started: list[float] = []
        self._stopping = False

    def run(
        self,
        *,
        is_ready: Callable[[], bool],
        ready: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        """Run every work in a process of its own until SIGTERM or SIGINT.

        Parameters
        ----------
        ready : called once, as soon as `is_ready`
        beat : called several times a second

        Raises
        ------
        SetupError
            If one ends before all were ready: it would end again.
        """
        before = {one: signal.signal(one, self._stop) for one in _SIGNALS}
        try:
            self._processes = [self._start(work) for work in self._works]
            self._started = [time.monotonic()] * len(self._works)
            told = False
            while not self._stopping:
                beat()
                if not told and is_ready():
                    ready()
                    told = True
                wait(
                    [process.sentinel for process in self._processes],
                    timeout=_LOOK_SECONDS if told else _LOOK_SECONDS / 10,
                )
                self._start_again(once_ready=told)
        finally:
            self._end()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, work: Work) -> ForkProcess:
        parent = os.getpid()

        def run() -> None:
            for one in _SIGNALS:
                signal.signal(one, signal.SIG_DFL)
            end_with(parent)
            try:
                work()
            except DriftwardError as error:
                log.error("a process cannot go on", why=str(error))  # noqa: TRY400
                sys.exit(1)
            except Exception as error:  # noqa: BLE001 - its text may quote what a sender wrote
                where = traceback.extract_tb(error.__traceback__)[-1]
                log.error(  # noqa: TRY400
                    "a process cannot go on",
                    why=type(error).__name__,
                    at=f"{Path(where.filename).name}:{where.lineno}",
                )
                sys.exit(1)

        process = self._context.Process(target=run)
        process.start()
        return process

    def _start_again(self, *, once_ready: bool) -> None:
        for index, process in enumerate(self._processes):
            if self._stopping or process.is_alive():
                continue
            if not once_ready:
                raise SetupError(
                    "the receiver cannot start: what it said before is why; `driftward doctor` "
                    "looks at the home"
                )
            log.error(
                "a process of the receiver ended, and is started anew", code=process.exitcode
            )
            if time.monotonic() - self._started[index] < _SHORT_LIFE_SECONDS:
                time.sleep(_SHORT_LIFE_SECONDS)
            self._processes[index] = self._start(self._works[index])
            self._started[index] = time.monotonic()

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        latest = time.monotonic() + _LONGEST_STOP_SECONDS
        for process in self._processes:
            process.join(max(0.0, latest - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
