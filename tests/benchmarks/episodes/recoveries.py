"""How often an episode's windows say that its shift is gone, when it is and when it is not.

    python tests/benchmarks/episodes/recoveries.py [--references 20] [--processes 2]

A unit is one reference, as every error of it stands in all windows. Two windows in a row are
ordinary, or both hold a shift that lasts; asked is whether they show nothing at .05, each by
itself or both together (`monitor/episodes/recovery.py`). What was measured is kept line by line
in `results/recoveries.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parent / "drift")]

import numpy as np  # noqa: E402  after the thread limits
from results import Results  # noqa: E402
from worlds import World, worlds  # noqa: E402

from monitor.episodes.recovery import shown_together  # noqa: E402
from monitor.evaluation import QUIET_LEVEL  # noqa: E402
from monitor.profiles import ReferenceProfile  # noqa: E402

WORLD = "broad"
WEEKS, WEEKLY_SCANS = 12, 200
#: offset of every coordinate, and spread of every cluster's prevalence, from week to week
EFFECTS = {"alike": (0.0, 0.0), "differ": (0.03, 0.2)}
#: scans of a window, with the multiples of shift *b* that it is tried with
STRENGTHS: Mapping[int, tuple[float, ...]] = {
    50: (1.5, 1.7, 2.0, 2.5),
    200: (0.8, 0.9, 1.0, 1.2),
}
ORDINARY_PAIRS, SHIFTED_PAIRS = 60, 40


def measure(key: str) -> dict[str, Any]:
    """Return the p-values of pairs of windows, by what they hold."""
    effect, _ = key.split("/")
    offset, prevalence = EFFECTS[effect]
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    world = worlds()[WORLD]

    def week(scans: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return world.week(scans, rng, offset=offset, prevalence=prevalence, rotated=False)

    profile = ReferenceProfile.fit(
        np.concatenate([week(WEEKLY_SCANS) for _ in range(WEEKS)]),
        weeks=np.repeat(np.arange(WEEKS), WEEKLY_SCANS),
        seed=int(rng.integers(2**31)),
    )

    def shifted(scans: int, times: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        moved: World = replace(world, mean_shift=times * world.mean_shift)
        return moved.scans(scans, rng, "b")

    def pair(windows: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> list[float]:
        return [round(profile.check(window).alarm_p_value, 6) for window in windows]

    found: dict[str, Any] = {}
    for scans, strengths in STRENGTHS.items():
        found[f"{scans}/0"] = [pair((week(scans), week(scans))) for _ in range(ORDINARY_PAIRS)]
        # A world's weeks cannot be shifted; where they differ, only ordinary ones are asked.
        for times in strengths if effect == "alike" else ():
            found[f"{scans}/{times:g}"] = [
                pair((shifted(scans, times), shifted(scans, times)))
                for _ in range(SHIFTED_PAIRS)
            ]
    return {"pairs": found}


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, in Markdown."""
    lines = [
        "### When an episode's windows show nothing",
        "",
        f"World *{WORLD}*, references of {WEEKS} weeks of {WEEKLY_SCANS} scans; ± one standard "
        "error over them. Of two windows in a row, how often the shift is taken for gone, by one "
        "reference: if each by itself shows nothing at .05, and if both together do, which is "
        "what closes an episode. The shift is *b*, the mean along some directions.",
        "",
        "| weeks | scans of a window | shift | pairs | one window shows it | each by itself "
        "| both together |",
        "|---|---|---|---|---|---|---|",
    ]
    for effect in EFFECTS:
        units = [row["pairs"] for row in rows if row["key"].startswith(f"{effect}/")]
        for cell in units[0] if units else ():
            scans, times = cell.split("/")
            pairs = np.array([unit[cell] for unit in units])
            shown = (pairs <= QUIET_LEVEL).mean(axis=(1, 2))
            each = (pairs > QUIET_LEVEL).all(axis=2).mean(axis=1)
            together = np.array(
                [[shown_together(one) > QUIET_LEVEL for one in unit] for unit in pairs]
            ).mean(axis=1)
            said = "none" if times == "0" else f"{times} of *b*"
            rates = " | ".join(_rate(one) for one in (shown, each, together))
            count = pairs.shape[0] * pairs.shape[1]
            lines.append(f"| {effect} | {scans} | {said} | {count:,} | {rates} |")
    return "\n".join(lines) + "\n"


def _rate(of_references: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    error = of_references.std(ddof=1) / np.sqrt(len(of_references))
    return f"{of_references.mean():.3f} ± {error:.3f}"


def main() -> None:
    """Measure what lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    results = Results("recoveries", folder=HERE / "results")
    keys = [f"{effect}/{index}" for index in range(chosen.references) for effect in EFFECTS]
    results.measure(keys, measure, processes=chosen.processes)
    sys.stdout.write(report(results.rows()))


if __name__ == "__main__":
    main()
