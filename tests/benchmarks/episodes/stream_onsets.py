"""How a stream's alarm is dated: by all scans, and by those of the place that carries the shift.

Streams of 240 scans a week from five scanners, each with an offset of its own, in weeks that
differ. One scanner shifts some weeks after the burn-in. The place is told: that scanner, or a
random half of all scans, which stands for a place that is wrong. Beside the stream's onset
stands the one that the product takes: the change point of the place's scans, where its interval
is the shorter one.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/episodes/stream_onsets.py SHIFT WEEKS SEEDS [half]

SHIFT is that of each coordinate, WEEKS how far weeks differ, both in standard deviations.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.profiles import ReferenceProfile
from monitor.streams import StreamDetector

DIMENSION, CLUSTERS = 48, 4
SHARES = np.array([0.25, 0.25, 0.2, 0.15, 0.15])
#: The scanner that shifts.
SHIFTED = 2
WEEK, REFERENCE_WEEKS, WATCHED_WEEKS = 240, 12, 28
BURN_IN = 5 * WEEK
#: Of one false alarm a quarter, shared by two streams.
BUDGET = 2 * 91 * 34
#: Scans after the alarm, at which the shift is dated again.
LATER = (0, 100, 300)
#: Fewest scans of a place that are judged.
FLOOR = 20

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """An onset about the true one, in scans of the stream."""

    off: int
    covered: bool
    width: int


class World:
    """What scans are drawn from."""

    def __init__(self, seed: int, weeks: float) -> None:
        rng = np.random.default_rng([seed, 0])
        self.seed, self.weeks = seed, weeks
        self.axes = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]
        self.spread = 1 / np.sqrt(1 + np.arange(DIMENSION) / 4)
        self.scanners = 0.4 * rng.normal(size=(len(SHARES), DIMENSION)) * self.spread
        self.clusters = rng.normal(size=(CLUSTERS, DIMENSION)) * self.spread

    def week(self, rng: np.random.Generator, number: int) -> tuple[Floats, Integers]:
        """Return the scans of a week along the axes [n, d], and their scanners [n]."""
        own = np.random.default_rng([7, 1000 * self.seed + number, int(1e6 * self.weeks)])
        scanners = rng.choice(len(SHARES), size=WEEK, p=SHARES)
        mix = np.array([0.4, 0.3, 0.2, 0.1]) * (1 + 0.15 * own.uniform(-1, 1, CLUSTERS))
        clusters = rng.choice(CLUSTERS, size=WEEK, p=mix / mix.sum())
        scans = rng.normal(size=(WEEK, DIMENSION)) * self.spread
        scans += self.scanners[scanners] + self.clusters[clusters]
        return scans + self.weeks * own.normal(size=DIMENSION) * self.spread, scanners

    def turned(self, scans: Floats) -> npt.NDArray[np.float32]:
        return np.asarray(scans @ self.axes, dtype=np.float32)


def dated(seed: int, *, shift: float, weeks: float, half: bool) -> dict[str, Dated]:
    """Return the onsets of one stream's alarm; nothing where none came, or too early."""
    world, rng = World(seed, weeks), np.random.default_rng([seed, 1])
    drawn = [world.week(rng, number) for number in range(REFERENCE_WEEKS)]
    reference = world.turned(np.concatenate([scans for scans, _ in drawn]))
    of_week = np.repeat(np.arange(REFERENCE_WEEKS), WEEK)
    fleet = ReferenceProfile.fit(reference, weeks=of_week, seed=seed)
    halves = np.random.default_rng([seed, 9])
    known = np.concatenate([scanners for _, scanners in drawn]) == SHIFTED
    if half:
        known = halves.random(len(known)) < 0.5
    place = ReferenceProfile.fit(reference[known], seed=seed)
    began = BURN_IN + int(np.random.default_rng([seed, 2]).integers(WEEK, 3 * WEEK))
    direction = np.random.default_rng([seed, 3]).normal(size=DIMENSION)
    direction *= shift * np.sqrt(DIMENSION) / np.linalg.norm(direction)
    drawn = [world.week(rng, 100 + number) for number in range(WATCHED_WEEKS)]
    scans = np.concatenate([scans for scans, _ in drawn])
    at = np.concatenate([scanners for _, scanners in drawn]) == SHIFTED
    scans[(np.arange(len(scans)) >= began) & at] += direction * world.spread
    belongs = halves.random(len(scans)) < 0.5 if half else at
    embeddings = world.turned(scans)
    stream = StreamDetector(
        fleet, scans_between_false_alarms=BUDGET, burn_in=BURN_IN, seed=seed
    )
    stream.update(embeddings[: began + 1500])
    if not stream.alarms or stream.alarms[0].scan < began:
        return {}
    alarm = stream.alarms[0]
    by_stream = Dated(
        off=alarm.onset - began,
        covered=alarm.onset_low <= began <= alarm.onset_high,
        width=alarm.onset_high - alarm.onset_low,
    )
    found = {"by all scans": by_stream}
    for later in LATER:
        rows = np.flatnonzero(belongs[: alarm.scan + 1 + later])
        marked = rows >= alarm.onset
        if marked.sum() < FLOOR:
            continue
        point, _ = place.onset(embeddings[rows], None, marked)
        before = rows[point.low - 1] if point.low else -1
        by_place = Dated(
            off=int(rows[point.index]) - began,
            covered=bool(before < began <= rows[point.high]),
            width=int(rows[point.high] - rows[point.low]),
        )
        surer = by_place if by_place.width < by_stream.width else by_stream
        found[f"by the place, {later} scans later"] = surer
    return found


def main() -> None:
    """Print one row for each way to date."""
    shift, weeks, seeds = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    runs = [
        dated(seed, shift=shift, weeks=weeks, half="half" in sys.argv[4:])
        for seed in range(seeds)
    ]
    lines = [
        "| dated | alarms | scans off: median | mean | 9 of 10 within | interval holds it |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for way in ("by all scans", *(f"by the place, {later} scans later" for later in LATER)):
        these = [run[way] for run in runs if way in run]
        off = np.abs([one.off for one in these])
        lines.append(
            f"| {way} | {len(these)} | {np.median(off):.0f} | {off.mean():.0f} | "
            f"{np.quantile(off, 0.9):.0f} | {np.mean([one.covered for one in these]):.2f} |"
        )
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
