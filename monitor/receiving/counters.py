"""What a receiver counts, in memory that its processes share: one writer a row, many readers."""

from __future__ import annotations

import multiprocessing
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

#: Upper bounds of the time from the last byte of an instance to its acknowledgement, seconds.
LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Counted(IntEnum):
    """One thing that is counted since the receiver started."""

    CONNECTIONS = 0
    ASSOCIATIONS = 1
    REJECTED_ASSOCIATIONS = 2
    ABORTED_ASSOCIATIONS = 3  #: by us: a protocol error, a limit, or silence
    RECEIVED = 4  #: instances that came whole
    ADDED = 5
    KNOWN = 6
    QUARANTINED = 7
    OUT_OF_RESOURCES = 8  #: refused with 0xA700: the sender tries again
    TOO_LARGE = 9
    BYTES = 10
    OPEN_ASSOCIATIONS = 11  #: now
    PENDING_BYTES = 12  #: now
    LISTENING = 13  #: processes that take connections now


_LATENCY = len(Counted)
_SLOTS = _LATENCY + len(LATENCY_BOUNDS) + 1
_MICROSECONDS = _SLOTS
_ROW = _SLOTS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts of all processes together."""

    counts: dict[Counted, int]
    latency: tuple[int, ...]  #: instances in each interval of LATENCY_BOUNDS, and beyond
    latency_seconds: float


class Counters:
    """Counters of several processes; made before they are started."""

    def __init__(self, processes: int) -> None:
        # Unsigned 64 bits and one writer a row: no lock is needed.
        self._memory = multiprocessing.RawArray("Q", processes * _ROW)
        self._processes = processes

    def row(self, process: int) -> CounterRow:
        """Return the counters that one process writes."""
        return CounterRow(self._memory, process * _ROW)

    def settle(self, process: int) -> None:
        """Set what counts the present to zero: the process has ended."""
        for now in (Counted.OPEN_ASSOCIATIONS, Counted.PENDING_BYTES, Counted.LISTENING):
            self._memory[process * _ROW + now] = 0

    def totals(self) -> Totals:
        """Return the sums over all processes."""
        sums = [
            sum(self._memory[process * _ROW + slot] for process in range(self._processes))
            for slot in range(_ROW)
        ]
        return Totals(
            counts={one: sums[one] for one in Counted},
            latency=tuple(sums[_LATENCY:_SLOTS]),
            latency_seconds=sums[_MICROSECONDS] / 1e6,
        )


class CounterRow:
    """The counters of one process."""

    def __init__(self, memory: Sequence[int], start: int) -> None:
        self._memory = memory
        self._start = start

    def add(self, what: Counted, number: int = 1) -> None:
        """Count something."""
        self._memory[self._start + what] += number  # type: ignore[index]

    def observe(self, seconds: float) -> None:
        """Count the time that an acknowledgement took."""
        slot = self._start + _LATENCY + bisect_left(LATENCY_BOUNDS, seconds)
        self._memory[slot] += 1  # type: ignore[index]
        self._memory[self._start + _MICROSECONDS] += round(seconds * 1e6)  # type: ignore[index]
