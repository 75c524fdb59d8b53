"""The last patients of a stream: so that none is bet on by himself, and a shift is dated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats, Integers

#: Patients that are remembered. By then the slowest average holds 2 % of one of them.
REMEMBERED = 512
#: the key of a patient of whom no identifier was given
NOBODY = 0


@dataclass(slots=True, kw_only=True)
class Recent:
    """Sums of features by patient, the oldest overwritten first."""

    #: [H, D] sums of the features of a patient's scans, half precision: what that leaves of a
    #: patient who is taken out of an average is a thousandth of him
    sums: npt.NDArray[np.float16]
    #: [H] scans of each; 0 where the patient has come back, or no one was yet
    scans: Integers
    #: [H] index of the first of them
    first: Integers
    #: [H] mass that the averages had seen with them
    clock: Floats
    #: [H] who it was
    keys: Integers
    #: patients ever written
    written: int
    places: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places.update(
            {int(self.keys[i]): i for i in range(len(self.keys)) if self.scans[i] > 0}
        )
        self.places.pop(NOBODY, None)

    @classmethod
    def nobody(cls, size: int) -> Recent:
        """Return the memory of a stream that has seen no one, for features of this size."""
        return cls(
            sums=np.zeros((REMEMBERED, size), dtype=np.float16),
            scans=np.zeros(REMEMBERED, dtype=np.int64),
            first=np.zeros(REMEMBERED, dtype=np.int64),
            clock=np.zeros(REMEMBERED),
            keys=np.zeros(REMEMBERED, dtype=np.int64),
            written=0,
        )

    def add(self, sums: Floats, scans: int, *, first: int, clock: float, key: int) -> None:
        """Remember a patient by the sums [D] of his scans' features."""
        place = self.written % len(self.keys)
        self.places.pop(int(self.keys[place]), None)
        self.sums[place] = sums
        self.scans[place], self.first[place], self.keys[place] = scans, first, key
        self.clock[place] = clock
        if key != NOBODY:
            self.places[key] = place
        self.written += 1

    def take(self, key: int) -> tuple[Floats, int, float] | None:
        """Forget a patient, and return his sums [D], scans, and the clock; None if unknown."""
        place = self.places.pop(key, None)
        if place is None:
            return None
        sums, scans = self.sums[place].astype(np.float64), int(self.scans[place])
        self.sums[place], self.scans[place], self.keys[place] = 0.0, 0, NOBODY
        return sums, scans, float(self.clock[place])

    def in_order(self) -> Integers:
        """Return the places of those remembered, the oldest first."""
        count = len(self.keys)
        start = max(self.written - count, 0)
        places = np.arange(start, self.written) % count
        return places[self.scans[places] > 0]
