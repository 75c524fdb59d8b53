"""Group commit: arrivals that wait at the same time share one fsync and one transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from monitor.scans import Arrival, Fate, ScanIntake

#: Arrivals that one transaction stores at most.
LARGEST_GROUP = 64


class Committer:
    """A thread that stores what is handed to it, in groups.

    While one group is written, the next gathers: the more senders there are,
    the more instances share a commit, and one alone waits for nobody.
    """

    def __init__(self, intake: ScanIntake) -> None:
        self._intake = intake
        self._waiting: queue.SimpleQueue[tuple[Arrival, Future[Fate]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def submit(self, arrival: Arrival) -> Future[Fate]:
        """Hand an arrival over; the future has its fate once it is durable.

        The future raises what storing raised: nothing of the arrival is kept then.
        """
        future: Future[Fate] = Future()
        self._waiting.put((arrival, future))
        return future

    def close(self) -> None:
        """Store what was handed over, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            stopping = False
            while len(group) < LARGEST_GROUP and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    stopping = True
                    break
                group.append(following)
            self._store(group)
            if stopping:
                return

    def _store(self, group: Sequence[tuple[Arrival, Future[Fate]]]) -> None:
        try:
            fates = self._intake.take([arrival for arrival, _ in group])
        except Exception as error:  # noqa: BLE001 - a database or disk that is down comes back
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), fate in zip(group, fates, strict=True):
            future.set_result(fate)
