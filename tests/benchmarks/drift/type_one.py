"""How often a profile rejects windows of its own distribution, cell by cell.

A cell is a world, a size of the reference, a size of the window, with or without patients.
A unit is one reference, against which windows of all sizes of its cell are checked.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from time import process_time

import numpy as np
from results import Results
from worlds import worlds

from monitor.profiles import ReferenceProfile

LEVELS = (0.05, 0.01)
#: scans in a reference, and in the windows that it is asked about
SIZES = {
    300: (20, 100),
    500: (20, 100, 200),
    2000: (20, 200, 1000),
    50000: (20, 200, 1000),
}
#: mean scans a patient; 0 where each scan is a patient
PATIENTS = (0.0, 1.5)
_WINDOWS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One reference of a cell."""

    world: str
    scans: int
    mean_scans: float
    index: int

    @property
    def key(self) -> str:
        return f"{self.world}/{self.scans}/{self.mean_scans:g}/{self.index}"

    @classmethod
    def of(cls, key: str) -> Unit:
        world, scans, mean_scans, index = key.split("/")
        return cls(
            world=world, scans=int(scans), mean_scans=float(mean_scans), index=int(index)
        )


def units(*, references: int, sizes: tuple[int, ...]) -> list[str]:
    """Return the keys of all units, sizes one after the other."""
    return [
        Unit(world=world, scans=scans, mean_scans=mean, index=index).key
        for scans in sizes
        for mean in PATIENTS
        for index in range(references)
        for world in worlds()
    ]


def measure(key: str) -> dict[str, object]:
    """Fit one reference and count the rejections of windows, by size and level."""
    unit = Unit.of(key)
    world = worlds()[unit.world]
    rng = np.random.default_rng(zlib.crc32(key.encode()))

    def draw(scans: int) -> tuple[np.ndarray, np.ndarray | None]:
        if unit.mean_scans == 0:
            return world.scans(scans, rng), None
        patients = max(round(scans / unit.mean_scans), 5)
        while True:
            drawn = world.patients(patients, rng, mean_scans=unit.mean_scans)
            if len(drawn[0]) >= 20:
                return drawn

    before = process_time()
    embeddings, patients = draw(unit.scans)
    profile = ReferenceProfile.fit(embeddings, patients, seed=unit.index)
    rejections: dict[str, list[int]] = {}
    for size in SIZES[unit.scans]:
        p_values = [profile.check(*draw(size)).p_value for _ in range(_WINDOWS)]
        rejections[str(size)] = [int(np.sum(np.array(p_values) <= one)) for one in LEVELS]
    return {
        "checks": _WINDOWS,
        "rejections": rejections,
        "seconds": round(process_time() - before, 2),
    }


def run(*, references: int, processes: int, sizes: tuple[int, ...] = tuple(SIZES)) -> None:
    """Measure every unit that lacks, several at once."""
    keys = units(references=references, sizes=sizes)
    Results("type_one").measure(keys, measure, processes=processes)
