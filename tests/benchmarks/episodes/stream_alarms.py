"""Streams: the run length that a budget gets, and how soon a shift is seen, beside windowed MMD.

    python tests/benchmarks/episodes/stream_alarms.py [--quick] [--processes 2]

A unit is one reference and its streams. Run lengths are all scans that were watched over all
alarms, which for alarms that may come at any time alike is the mean time to one, also where
streams end before it; the reference's error is in it, since every unit draws its own. What was
measured is kept line by line in `results/streams.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parent / "drift")]

import numpy as np  # noqa: E402  after the thread limits
from results import Results  # noqa: E402
from scipy.optimize import brentq  # noqa: E402
from scipy.spatial.distance import pdist  # noqa: E402
from stream_lockstep import Life, Weeks, run_lengths  # noqa: E402
from windowed_mmd import WindowedMMD, records  # noqa: E402
from worlds import worlds  # noqa: E402

from monitor.profiles import ReferenceProfile  # noqa: E402
from monitor.streams import StreamDetector  # noqa: E402

BUDGETS = (300, 1000, 3000)
LONG_BUDGETS = (*BUDGETS, 10_000, 36_000)
#: how scans come, beside how a burn-in is had
KINDS: Mapping[str, tuple[dict[str, Any], int]] = {
    "single": ({}, 0),
    "patients": ({"patients": True}, 0),
    "weeks .02 .2": ({"weeks": Weeks(offset=0.02, prevalence=0.2)}, 1000),
    "weeks .03 .2": ({"weeks": Weeks(offset=0.03, prevalence=0.2)}, 1000),
}
#: world, reference, kind, streams, scans of each, budgets, references
CELLS: Sequence[tuple[str, int, str, int, int, tuple[int, ...], int]] = (
    *((world, 500, "single", 16, 3000, BUDGETS, 80) for world in worlds()),
    *((world, 2000, "single", 16, 3000, BUDGETS, 20) for world in worlds()),
    ("broad", 50_000, "single", 16, 3000, BUDGETS, 40),
    ("broad", 500, "patients", 16, 3000, BUDGETS, 20),
    ("broad", 2000, "patients", 16, 3000, BUDGETS, 20),
    *(("broad", 2000, f"weeks .0{o} .2", 16, 3000, BUDGETS, 20) for o in (2, 3)),
    ("broad", 2000, "single long", 16, 20_000, LONG_BUDGETS, 60),
)
SHIFTS = ("b", "c", "d", "e")
#: the member that sees each shift most clearly, as nobody knows beforehand
CLEAREST = {
    "b": "whitened-mean-all",
    "c": "log-mahalanobis-fine",
    "d": "whitened-mean-all",
    "e": "occupancy",
}
#: scans before a shift, and after it
BEFORE, AFTER = 200, 2500
WINDOWS = (50, 100, 200)
DELAY_REFERENCES, NULL_PATHS, SHIFTED_PATHS = 20, 12, 6
#: of the stream without a shift that the peer's threshold is found on
NULL_LENGTH, TOLD_LENGTH = 20_000, 3000
COST_BATCHES, COST_SCANS, COST_ROUNDS = (1, 8, 32, 256), 256, 5


def measure(key: str) -> dict[str, Any]:
    """Measure one unit."""
    table, _, rest = key.partition("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if table == "null":
        return _null(rest, rng)
    if table == "delay":
        return _delay(rng)
    return _cost(int(rest), rng)


def _profile(
    life: Life, scans: int, rng: np.random.Generator
) -> tuple[ReferenceProfile, np.ndarray[Any, np.dtype[np.float32]]]:
    drawn, patients, weeks = life.reference(scans, rng)
    seed = int(rng.integers(2**31))
    return ReferenceProfile.fit(drawn, patients, weeks=weeks, seed=seed), drawn


def _null(rest: str, rng: np.random.Generator) -> dict[str, Any]:
    world, scans, kind, _ = rest.split("/")
    cell = next(one for one in CELLS if one[:3] == (world, int(scans), kind))
    _, _, _, streams, length, budgets, _ = cell
    options, burn_in = KINDS[kind.removesuffix(" long")]
    life = Life(world=worlds()[world], **options)
    profile, _ = _profile(life, int(scans), rng)
    stopped = run_lengths(
        profile,
        life,
        streams=streams,
        budgets=budgets,
        length=length,
        burn_in=burn_in,
        rng=rng,
    )
    return {"budgets": budgets, "length": length, "stopped": stopped}


def _delay(rng: np.random.Generator) -> dict[str, Any]:
    """Measure the delays of both, and the peer's statistic on streams without a shift."""
    world = worlds()["broad"]
    life = Life(world=world)
    profile, drawn = _profile(life, 2000, rng)
    peer = WindowedMMD(drawn, bandwidth=float(np.median(pdist(drawn[:500]))))

    def delays(shift: str, budgets: Sequence[int], told: str | None = None) -> list[list[int]]:
        return run_lengths(
            profile,
            Life(world=world, shift=shift, after=BEFORE),
            streams=SHIFTED_PATHS,
            budgets=budgets,
            length=BEFORE + AFTER,
            told=told,
            rng=rng,
        )

    def quiet(length: int, budgets: Sequence[int], told: str | None = None) -> list[list[int]]:
        return run_lengths(
            profile,
            life,
            streams=NULL_PATHS,
            budgets=budgets,
            length=length,
            told=told,
            rng=rng,
        )

    measured: dict[str, Any] = {
        "ours": {shift: delays(shift, LONG_BUDGETS) for shift in SHIFTS},
        "quiet": quiet(NULL_LENGTH, LONG_BUDGETS),
        "told": {shift: delays(shift, BUDGETS, told) for shift, told in CLEAREST.items()},
        "quiet told": {
            told: quiet(TOLD_LENGTH, BUDGETS, told) for told in sorted(set(CLEAREST.values()))
        },
    }
    null: dict[int, list[Any]] = defaultdict(list)
    for _ in range(NULL_PATHS):
        for window, path in peer.path(world.scans(NULL_LENGTH, rng), WINDOWS).items():
            null[window].append(records(path))
    shifted: dict[str, dict[int, list[Any]]] = {shift: defaultdict(list) for shift in SHIFTS}
    for shift in SHIFTS:
        for _ in range(SHIFTED_PATHS):
            stream = np.concatenate([world.scans(BEFORE, rng), world.scans(AFTER, rng, shift)])
            for window, path in peer.path(stream, WINDOWS).items():
                shifted[shift][window].append(records(path[BEFORE:]))
    return measured | {"null": null, "shifted": shifted}


def _cost(scans: int, rng: np.random.Generator) -> dict[str, Any]:
    """Time updates by how many scans they are of, on one thread."""
    world = worlds()["broad"]
    profile, _ = _profile(Life(world=world), scans, rng)
    stream = StreamDetector(profile, scans_between_false_alarms=36_000)
    stream.update(world.scans(600, rng))
    spent: dict[str, list[float]] = {}
    for batch in COST_BATCHES:
        spent[str(batch)] = []
        for _ in range(COST_ROUNDS):
            some = np.split(world.scans(COST_SCANS, rng), COST_SCANS // batch)
            start = time.process_time()
            for scans_together in some:
                stream.update(scans_together)
            spent[str(batch)].append((time.process_time() - start) / COST_SCANS)
    return {"spent": spent}


def keys(*, quick: bool) -> list[str]:
    """Return all units, some of each table first."""
    null = [
        (index, f"null/{world}/{scans}/{kind}/{index}")
        for world, scans, kind, *_, references in CELLS
        for index in range(1 if quick else references)
        if not (quick and scans > 2000)
    ]
    delay = [(i, f"delay/{i}") for i in range(1 if quick else DELAY_REFERENCES)]
    cost = [(0, f"cost/{scans}") for scans in ((2000,) if quick else (2000, 50_000))]
    return [key for _, key in sorted(null + delay + cost, key=lambda one: one[0])]


def _run_length(stopped: Iterable[int], length: int) -> tuple[int, int]:
    """Return the scans that were watched, and the alarms."""
    every = list(stopped)
    return sum(one or length for one in every), sum(one > 0 for one in every)


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables, in Markdown."""
    by_key = {row["key"]: row for row in rows}
    lines = [
        "### Streams: scans to a false alarm",
        "",
        "Pooled over references, ± one standard error over them (jackknife); in brackets the "
        "middle eight tenths of single references. Goal: within 10 % of the budget, within 20 % "
        "where weeks differ.",
        "",
        "| world | reference | streams | references | null streams | budget | scans to an alarm "
        "| of the budget | single references |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for world, scans, kind, streams, length, budgets, _ in CELLS:
        prefix = f"null/{world}/{scans}/{kind}/"
        units = [row for key, row in by_key.items() if key.startswith(prefix)]
        for at, budget in enumerate(budgets if units else ()):
            watched, alarms = np.array(
                [_run_length(unit["stopped"][at], length) for unit in units]
            ).T
            if not alarms.sum():
                continue
            mean = watched.sum() / alarms.sum()
            without = (watched.sum() - watched) / np.maximum(alarms.sum() - alarms, 1)
            count = len(units)
            error = float(np.sqrt((count - 1) / count * np.square(without - mean).sum()))
            low, high = np.quantile(watched / np.maximum(alarms, 0.5), (0.1, 0.9))
            lines.append(
                f"| {world} | {scans:,} | {kind} | {count} | {count * streams:,} | {budget:,} "
                f"| {mean:,.0f} ± {error:,.0f} | {mean / budget:.2f} | {low:,.0f}–{high:,.0f} |"
            )
    return "\n".join([*lines, "", *_delays(rows), *_costs(by_key)])


def _first(path: Sequence[Sequence[float]], threshold: float) -> int:
    return next((int(scan) for scan, value in path if value > threshold), 0)


def _delays(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    units = [row for row in rows if row["key"].startswith("delay/")]
    if not units:
        return []
    lines = [
        "### Streams: scans from a shift to its alarm",
        "",
        f"World *broad*, reference 2,000, {len(units)} references, "
        f"{len(units) * SHIFTED_PATHS} streams a shift; the exact MMD of the last 50, 100 and 200 "
        "scans alarms at the run length that the stream had without a shift in the same run. "
        "Alarms before the shift are not counted as such. *Told the member*: a stream that bets "
        "on nothing but the member which sees the shift most clearly, as nobody knows beforehand.",
        "",
        "| budget | realised | test | " + " | ".join(SHIFTS) + " |",
        "|---|---|---|" + "---|" * len(SHIFTS),
    ]
    for at, budget in enumerate(LONG_BUDGETS):
        realised = _realised((unit["quiet"][at] for unit in units), NULL_LENGTH)
        cells = [_late(unit["ours"][shift][at] for unit in units) for shift in SHIFTS]
        lines.append(f"| {budget:,} | {realised:,.0f} | stream | " + " | ".join(cells) + " |")
        for window in map(str, WINDOWS):
            null = [path for unit in units for path in unit["null"][window]]
            threshold = _matched(null, realised)
            cells = []
            for shift in SHIFTS:
                paths = [path for unit in units for path in unit["shifted"][shift][window]]
                found = [_first(path, threshold) for path in paths]
                cells.append(_mean(_run_length(found, AFTER)))
            lines.append(
                f"| {budget:,} | matched | MMD, {window} | " + " | ".join(cells) + " |"
            )
        if budget not in BUDGETS:
            continue
        alone = [
            _realised((unit["quiet told"][told][at] for unit in units), TOLD_LENGTH)
            for told in sorted(set(CLEAREST.values()))
        ]
        cells = [_late(unit["told"][shift][at] for unit in units) for shift in SHIFTS]
        lines.append(
            f"| {budget:,} | {min(alone):,.0f}–{max(alone):,.0f} | told the member | "
            + " | ".join(cells)
            + " |"
        )
    return [*lines, ""]


def _realised(stopped: Iterable[Sequence[int]], length: int) -> float:
    """Return the run length of streams without a shift that were watched for so many scans."""
    watched, alarms = _run_length((one for some in stopped for one in some), length)
    return watched / max(alarms, 1)


def _late(stopped: Iterable[Sequence[int]]) -> str:
    """Return the mean delay of streams that did not alarm before the shift."""
    every = [one for some in stopped for one in some]
    late = [one - BEFORE if one else 0 for one in every if not 0 < one <= BEFORE]
    return _mean(_run_length(late, AFTER))


def _mean(counted: tuple[int, int]) -> str:
    watched, alarms = counted
    return f"{watched / alarms:,.0f}" if alarms else "later"


def _matched(null: Sequence[Sequence[Sequence[float]]], target: float) -> float:
    """Return the threshold at which streams without a shift have a run length."""

    def excess(threshold: float) -> float:
        watched, alarms = _run_length((_first(path, threshold) for path in null), NULL_LENGTH)
        return watched / max(alarms, 0.5) - target

    heights = [value for path in null for _, value in path]
    return float(brentq(excess, min(heights), max(heights), xtol=1e-9))


def _costs(by_key: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "### Streams: cost of a scan",
        "",
        "CPU milliseconds of a scan on one thread, by how many come at once; median of "
        f"{COST_ROUNDS} times {COST_SCANS} scans. Goal: under .3.",
        "",
        "| reference | " + " | ".join(map(str, COST_BATCHES)) + " |",
        "|---|" + "---|" * len(COST_BATCHES),
    ]
    for key, row in by_key.items():
        if key.startswith("cost/"):
            cells = [
                f"{1e3 * float(np.median(row['spent'][str(batch)])):.3f}"
                for batch in COST_BATCHES
            ]
            lines.append(f"| {int(key[5:]):,} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure what still lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    folder = HERE / "results" / "quick" if chosen.quick else HERE / "results"
    results = Results("streams", folder=folder)
    results.measure(keys(quick=chosen.quick), measure, processes=chosen.processes)
    sys.stdout.write(report(results.rows()) + "\n")


if __name__ == "__main__":
    main()
