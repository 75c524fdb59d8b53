"""Ordinary weeks: how often they are rejected, how often they alarm, and what still does.

A unit is one reference that spans weeks. Eighty windows, each a week of its own, differ from
it as its weeks differ from each other; twenty more differ twice as much.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from results import Results
from worlds import worlds

from monitor.profiles import ReferenceProfile

LEVEL = 0.05
WINDOW, WINDOWS, SHIFTED = 200, 80, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What weeks differ by."""

    #: of every coordinate, in its standard deviations
    offset: float
    #: of the logarithm of every cluster's prevalence
    prevalence: float
    #: offsets are those of the embedding's own coordinates
    rotated: bool


EFFECTS = {
    "none": Effect(offset=0.0, prevalence=0.0, rotated=False),
    "offset-2": Effect(offset=0.02, prevalence=0.0, rotated=False),
    "offset-3": Effect(offset=0.03, prevalence=0.0, rotated=False),
    "offset-3-rotated": Effect(offset=0.03, prevalence=0.0, rotated=True),
    "prevalence-20": Effect(offset=0.0, prevalence=0.2, rotated=False),
    "offset-3-prevalence-20": Effect(offset=0.03, prevalence=0.2, rotated=False),
}
#: weeks of 200 scans in a reference, and what is measured with so many
WEEKS = {26: tuple(EFFECTS), 12: ("none", "offset-3-prevalence-20")}


def units(*, references: int) -> list[str]:
    """Return the keys of all units, references of all cells in turn."""
    return [
        f"{effect}/{weeks}/{index}"
        for index in range(references)
        for weeks, effects in WEEKS.items()
        for effect in effects
    ]


def measure(key: str) -> dict[str, Any]:
    """Return rates of rejection and of alarm, of ordinary weeks and of shifted ones."""
    name, weeks, index = key.split("/")
    effect = EFFECTS[name]
    world = next(iter(worlds().values()))
    rng = np.random.default_rng(zlib.crc32(key.encode()))

    def week(times: float = 1.0) -> np.ndarray:
        return world.week(
            WINDOW,
            rng,
            offset=times * effect.offset,
            prevalence=times * effect.prevalence,
            rotated=effect.rotated,
        )

    reference = np.concatenate([week() for _ in range(int(weeks))])
    profile = ReferenceProfile.fit(
        reference, weeks=np.repeat(np.arange(int(weeks)), WINDOW), seed=int(index)
    )
    ordinary = [profile.check(week()) for _ in range(WINDOWS)]
    shifted = [profile.check(week(2.0)) for _ in range(SHIFTED)]
    return {
        "checks": WINDOWS,
        "rejected": sum(one.p_value <= LEVEL for one in ordinary),
        "alarms": sum(one.alarm_p_value <= LEVEL for one in ordinary),
        "shifted": SHIFTED,
        "shifted_rejected": sum(one.p_value <= LEVEL for one in shifted),
        "shifted_alarms": sum(one.alarm_p_value <= LEVEL for one in shifted),
    }


def run(*, references: int, processes: int) -> None:
    """Measure every unit that lacks, several at once."""
    Results("week_effects").measure(units(references=references), measure, processes=processes)
