"""Taking instances in groups: they share a transaction, and are in memory together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from monitor.intake.intake import Rejected
from monitor.intake.reasons import Reason
from monitor.scans import Arrival, Fate, Fence, Outcome, ScanIntake
from monitor.sources.progress import RoadOutcome

#: Instances, and bytes of them, that one transaction stores at most.
LARGEST_GROUP = 64
LARGEST_GROUP_BYTES = 64 << 20

_OUTCOMES = {
    Outcome.ADDED: RoadOutcome.ADDED,
    Outcome.KNOWN: RoadOutcome.KNOWN,
    Outcome.QUARANTINED: RoadOutcome.QUARANTINED,
    Outcome.FOLLOWED: RoadOutcome.FOLLOWED,
}


class Group:
    """Instances that are to be taken together.

    Parameters
    ----------
    took : told of each instance how many seconds lay between its being whole and durable
    fence : see `ScanIntake.take`
    """

    def __init__(
        self,
        intake: ScanIntake,
        *,
        took: Callable[[float], None],
        fence: Fence | None = None,
    ) -> None:
        self._intake = intake
        self._took = took
        self._fence = fence
        self._arrivals: list[Arrival] = []
        self._bytes = 0

    def add(self, arrival: Arrival, size: int) -> None:
        """Add an instance of so many bytes."""
        self._arrivals.append(arrival)
        self._bytes += size

    @property
    def full(self) -> bool:
        return len(self._arrivals) >= LARGEST_GROUP or self._bytes >= LARGEST_GROUP_BYTES

    def take(self) -> list[Fate]:
        """Store what is in the group, empty it, and return the fates in their order.

        Raises whatever `ScanIntake.take` does: nothing may count as taken then.
        """
        arrivals, self._arrivals, self._bytes = self._arrivals, [], 0
        if not arrivals:
            return []
        fates = self._intake.take(arrivals, fence=self._fence)
        now = time.monotonic()
        for arrival in arrivals:
            self._took(now - arrival.since)
        return fates


def too_large(site: str, *, limit: int) -> Arrival:
    """Return the arrival of what was larger than may be held, for the quarantine's record."""
    return Arrival(
        prepared=Rejected(
            site=site,
            reason=Reason.TOO_LARGE,
            detail=f"larger than {limit:,} bytes",
            content=None,
        ),
        original=_gone,
    )


def counted(fates: list[Fate]) -> Counter[RoadOutcome]:
    """Return how many instances had each outcome."""
    return Counter(outcomes(fates))


def outcomes(fates: list[Fate]) -> Iterator[RoadOutcome]:
    """Yield each instance's outcome."""
    return (_OUTCOMES[fate.outcome] for fate in fates)


def _gone() -> None:
    return None
