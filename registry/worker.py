"""A worker: claims jobs, runs their handler under a renewed lease, and closes them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import structlog
from sqlalchemy.exc import OperationalError

from registry.errors import DriftwardError, LeaseLostError
from registry.jobs import Claim, JobQueue

#: Does the work of one claim. What it writes, it writes behind `jobs.fence`;
#: run again after a crash, it must come to the same end.
JobHandler: TypeAlias = Callable[[Claim], None]

log = structlog.get_logger(__name__)


class Worker:
    """Runs the handlers that it was given, one job at a time."""

    def __init__(self, queue: JobQueue, handlers: Mapping[str, JobHandler]) -> None:
        self._queue = queue
        self._handlers = dict(handlers)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident():x}"

    def run_one(self) -> bool:
        """Run the next job, and say whether there was one.

        A refusal or bad input (`DriftwardError`) ends the job as failed, since
        trying again would end alike; anything else is tried again.
        """
        claim = self._queue.claim(self.name, list(self._handlers))
        if claim is None:
            return False
        context = log.bind(job=claim.job, kind=claim.kind, attempt=claim.attempt)
        try:
            self._do(claim, context)
        except LeaseLostError as error:
            context.warning("lease lost", error=str(error))
        return True

    def _do(self, claim: Claim, context: structlog.stdlib.BoundLogger) -> None:
        """Run a claim's handler and close its job; LeaseLostError may come of either."""
        try:
            with self._lease(claim):
                self._handlers[claim.kind](claim)
            self._queue.finish(claim)
            context.info("job done")
        except LeaseLostError:
            raise
        except DriftwardError as error:
            context.error("job failed", error=str(error))
            self._queue.fail(claim, str(error), retry=False)
        except OperationalError as error:
            # The database was away or busy for long, which tells nothing about the job.
            context.error("job given back", error=type(error).__name__, exc_info=True)
            self._queue.give_back(claim)
        except Exception as error:  # noqa: BLE001 - one bad job must not stop the worker
            # The text of a foreign error may quote its input, so only its type is kept.
            context.error("job failed", error=type(error).__name__, exc_info=True)
            self._queue.fail(claim, f"{type(error).__name__} in {claim.kind}", retry=True)

    def drain(self) -> int:
        """Run jobs until none waits, and return how many ran."""
        count = 0
        while self.run_one():
            count += 1
        return count

    def run_until(self, stop: threading.Event, *, idle_seconds: float = 1.0) -> None:
        """Run jobs until `stop` is set, looking for new ones every `idle_seconds`.

        A database that is away or busy for long ends no worker: a job that could not be
        closed is left to its lease.
        """
        while not stop.is_set():
            try:
                found = self.run_one()
            except Exception as error:
                log.error("no job taken or closed", error=type(error).__name__, exc_info=True)
                found = False
            if not found:
                stop.wait(idle_seconds)

    @contextmanager
    def _lease(self, claim: Claim) -> Iterator[None]:
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._queue.lease.total_seconds() / 3):
                try:
                    self._queue.renew(claim)
                except DriftwardError:
                    return  # the handler's next fenced write says so
                except Exception as error:  # noqa: BLE001 - a busy database is asked again
                    log.warning("lease not renewed", job=claim.job, error=type(error).__name__)

        thread = threading.Thread(target=renew, name=f"lease-{claim.job}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
