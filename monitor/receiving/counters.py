"""What a receiver counts, in memory that its processes share: one writer a row, many readers."""

from __future__ import annotations

import mmap
import time
from bisect import bisect_left
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

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
    FOLLOWED = 14  #: documents that said something of scans, and were followed


#: What is counted now, not since the start.
PRESENT = (Counted.OPEN_ASSOCIATIONS, Counted.PENDING_BYTES, Counted.LISTENING)
#: A receiver that has not said for so long that it runs does not.
_SILENT_SECONDS = 10

_HEADER = 1  #: the time of the last beat, seconds since the epoch
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
    """Counters of several processes, in a file that each of them has mapped."""

    def __init__(self, memory: memoryview) -> None:
        # Unsigned 64 bits and one writer a row: no lock is needed.
        self._memory = memory
        self._processes = (len(memory) - _HEADER) // _ROW

    @classmethod
    def create(cls, path: Path, *, processes: int) -> Self:
        """Make the file anew, with every count at 0."""
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.write_bytes(bytes(8 * (_HEADER + processes * _ROW)))
        unfinished.chmod(0o600)
        unfinished.replace(path)
        return cls._mapped(path, writing=True)

    @classmethod
    def of_running(cls, path: Path) -> Self | None:
        """Return the counters of a receiver that runs on this machine, or None if none does."""
        try:
            counters = cls._mapped(path, writing=False)
        except (OSError, ValueError):
            return None
        return counters if time.time() - counters._memory[0] <= _SILENT_SECONDS else None

    @classmethod
    def _mapped(cls, path: Path, *, writing: bool) -> Self:
        with path.open("r+b" if writing else "rb") as file:
            access = mmap.ACCESS_WRITE if writing else mmap.ACCESS_READ
            return cls(memoryview(mmap.mmap(file.fileno(), 0, access=access)).cast("Q"))

    def beat(self) -> None:
        """Say that the receiver runs."""
        self._memory[0] = int(time.time())

    def row(self, process: int) -> CounterRow:
        """Return the counters that one process writes."""
        return CounterRow(self._memory, _HEADER + process * _ROW)

    def settle(self, process: int) -> None:
        """Set what counts the present to zero: the process has ended."""
        for now in PRESENT:
            self._memory[_HEADER + process * _ROW + now] = 0

    def totals(self) -> Totals:
        """Return the sums over all processes."""
        sums = [
            sum(
                self._memory[_HEADER + process * _ROW + slot]
                for process in range(self._processes)
            )
            for slot in range(_ROW)
        ]
        return Totals(
            counts={one: sums[one] for one in Counted},
            latency=tuple(sums[_LATENCY:_SLOTS]),
            latency_seconds=sums[_MICROSECONDS] / 1e6,
        )


class CounterRow:
    """The counters of one process."""

    def __init__(self, memory: memoryview, start: int) -> None:
        self._memory = memory
        self._start = start

    def add(self, what: Counted, number: int = 1) -> None:
        """Count something."""
        self._memory[self._start + what] += number

    def observe(self, seconds: float) -> None:
        """Count the time that an acknowledgement took."""
        slot = self._start + _LATENCY + bisect_left(LATENCY_BOUNDS, seconds)
        self._memory[slot] += 1
        self._memory[self._start + _MICROSECONDS] += round(seconds * 1e6)
