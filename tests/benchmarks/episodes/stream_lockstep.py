"""Streams of a synthetic world, many at once against one reference.

The bets of `StreamDetector` on each of them, in the same order of the same operations
(tests/monitor/test_streams.py watches one stream by itself).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from worlds import World

from monitor.profiles import ReferenceProfile
from monitor.statistics.streams.betting import Bets, alarm_wealth
from monitor.statistics.streams.stakes import StreamLaw
from monitor.statistics.threads import one_thread

Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

#: scans of each stream that are drawn together
CHUNK = 64
WEEK = 200
MEAN_SCANS = 1.5
# Weight of the members that are not bet on, whose logarithm is taken.
_NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Weeks:
    """What ordinary weeks differ by: of every coordinate, and of every cluster's prevalence."""

    offset: float
    prevalence: float

    def draw(self, world: World, rng: np.random.Generator) -> Singles:
        """Draw the scans of one week."""
        return world.week(
            WEEK, rng, offset=self.offset, prevalence=self.prevalence, rotated=False
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How the scans of a stream come."""

    world: World
    #: whether patients have 1.5 scans in a row, and not one
    patients: bool = False
    weeks: Weeks | None = None
    #: what happens after so many scans
    shift: str = "none"
    after: int = 0

    def reference(
        self, scans: int, rng: np.random.Generator
    ) -> tuple[Singles, npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
        """Draw a reference of about so many scans, with patients and weeks where there are."""
        if self.weeks is not None:
            count = scans // WEEK
            drawn = np.concatenate([self.weeks.draw(self.world, rng) for _ in range(count)])
            return drawn, None, np.repeat(np.arange(count), WEEK)
        if self.patients:
            drawn, patients = self.world.patients(
                round(scans / MEAN_SCANS), rng, mean_scans=MEAN_SCANS
            )
            return drawn, patients, None
        return self.world.scans(scans, rng), None, None

    def chunks(self, streams: int, rng: np.random.Generator) -> Iterator[tuple[Singles, Flags]]:
        """Yield the next scans of all streams, [S, CHUNK, d], and whose are another patient's."""
        kept = [np.zeros((0, self.world.dimension), dtype=np.float32)] * streams
        arrived = [np.zeros(0, dtype=bool)] * streams
        seen = 0
        while True:
            for s in range(streams):
                while len(kept[s]) < CHUNK:
                    more, new = self._more(seen + len(kept[s]), rng)
                    kept[s] = np.concatenate([kept[s], more])
                    arrived[s] = np.concatenate([arrived[s], new])
            yield (
                np.stack([one[:CHUNK] for one in kept]),
                np.stack([one[:CHUNK] for one in arrived]),
            )
            seen += CHUNK
            kept = [one[CHUNK:] for one in kept]
            arrived = [one[CHUNK:] for one in arrived]

    def _more(self, seen: int, rng: np.random.Generator) -> tuple[Singles, Flags]:
        if self.weeks is not None:
            scans = self.weeks.draw(self.world, rng)
            return scans, np.ones(len(scans), dtype=bool)
        if self.patients:
            scans, patient = self.world.patients(CHUNK, rng, mean_scans=MEAN_SCANS)
            return scans, np.diff(patient, prepend=-1) != 0
        if seen < self.after:
            count = min(CHUNK, self.after - seen)
            return self.world.scans(count, rng), np.ones(count, dtype=bool)
        return self.world.scans(CHUNK, rng, self.shift), np.ones(CHUNK, dtype=bool)


def run_lengths(
    profile: ReferenceProfile,
    life: Life,
    *,
    streams: int,
    budgets: Sequence[int],
    length: int,
    burn_in: int = 0,
    told: str | None = None,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Return the scan after the burn-in at which each stream alarms, by budget; 0 for not.

    Streams are watched for `length` scans after the burn-in, or until all have alarmed in
    all budgets. An alarm before the shift is told by a number up to `life.after`. `told` is a
    member's name, if all is bet on that one.
    """
    with one_thread():
        law = StreamLaw.of(profile.portfolio)
        if told is not None:
            weights = (
                np.array([float(one.name == told) for one in law.members]) + _NEXT_TO_NOTHING
            )
            law = replace(law, weights=weights / weights.sum())
        bets = Bets.start(law, streams=streams, learning=burn_in > 0)
        thresholds = np.array([alarm_wealth(one) for one in budgets])[:, None]
        stopped = np.zeros((len(budgets), streams), dtype=np.int64)
        scan = 0
        for scans, arrived in life.chunks(streams, rng):
            flat = scans.reshape(-1, scans.shape[2])
            features = law.features(profile.portfolio, flat).astype(np.float64)
            features = features.reshape(streams, scans.shape[1], -1)
            for i in range(scans.shape[1]):
                bets.watching = scan >= burn_in
                wealth = bets.advance(features[:, i], arrived=arrived[:, i])
                scan += 1
                if scan > burn_in:
                    stopped[(stopped == 0) & (wealth >= thresholds)] = scan - burn_in
            if scan - burn_in >= length or (stopped > 0).all():
                return np.where(stopped > length, 0, stopped).tolist()
    raise AssertionError("streams do not end")
