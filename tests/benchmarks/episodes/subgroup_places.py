"""Which subgroup is named where a shift is in one part of the scans, in synthetic worlds.

    python tests/benchmarks/episodes/subgroup_places.py [--processes 2]

A fleet of three sites and five scanners, each with a look of its own; a reference knows each of
them, and windows hold a shift in some part of the fleet, or none. Every subgroup is tested
against its own past and the smallest that carries the shift is looked for, as the product does.
A unit is one reference and its windows, kept in `results/subgroup_places.jsonl`.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parent / "drift")]

import numpy as np  # noqa: E402  after the thread limits
import numpy.typing as npt  # noqa: E402
from results import Results  # noqa: E402
from worlds import World, worlds  # noqa: E402

from monitor.evaluation import benjamini_hochberg  # noqa: E402
from monitor.localising import SubgroupVerdict, locate  # noqa: E402
from monitor.profiles import LEAST_REFERENCE_PATIENTS, ReferenceProfile  # noqa: E402
from monitor.subgroups import Attribute, Subgroup, subgroups_of  # noqa: E402
from monitor.tables import ScanRow  # noqa: E402

#: site, scanner, model, its share of all scans
SCANNERS = (
    ("north", "north-1", "DR 100", 0.22),
    ("north", "north-2", "DR 200", 0.18),
    ("south", "south-1", "DR 100", 0.2),
    ("south", "south-2", "DR 200", 0.2),
    ("coast", "coast-1", "DR 100", 0.2),
)
ATTRIBUTES = (
    Attribute.SITE,
    Attribute.SCANNER_MODEL,
    Attribute.STATION,
    Attribute.SOFTWARE_VERSION,
    Attribute.SEX,
    Attribute.VIEW,
)
REFERENCE, REFERENCES, FLOOR = 3000, 2, 30
SIZES = (300, 1000)
#: windows of each place and size, of one reference
WINDOWS = 36
#: By how much scanners differ without drifting, in standard deviations of a coordinate.
LOOK = 0.1
#: Times the worlds' own shifts, which are made for windows as a whole.
STRENGTH = 3.0
#: the part that shifts, by what is true of a scan in it; the last is half of one scanner's
PLACES: Mapping[str, Callable[[ScanRow], bool]] = {
    "nothing": lambda _: False,
    "all scans": lambda _: True,
    "one site": lambda scan: scan.site == "south",
    "one scanner": lambda scan: scan.station == "south-2",
    "one model, at two sites": lambda scan: scan.scanner_model == "DR 200",
    "one sex": lambda scan: scan.sex == "F",
    "one scanner's new version": lambda scan: scan.software_version == "9",
}
SHIFTS = ("b", "c")
#: Share of the scans of the named subgroup and of the part that shifts, of either, that is both.
LEAST_OVERLAP = 0.9
_NOW = datetime(2026, 1, 1, tzinfo=UTC)

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What scans are drawn from."""

    world: World
    seed: int

    def scans(
        self, count: int, rng: np.random.Generator, *, new_version: bool
    ) -> list[ScanRow]:
        """Draw scans' attributes."""
        chosen = rng.choice(len(SCANNERS), size=count, p=[share for *_, share in SCANNERS])
        rows = []
        for number, one in enumerate(chosen):
            site, station, model, _ = SCANNERS[one]
            is_new = new_version and station == "south-2" and rng.random() < 0.5
            rows.append(
                ScanRow(
                    id=number,
                    site=site,
                    station=station,
                    scanner_model=model,
                    software_version="9" if is_new else "1",
                    sex="F" if rng.random() < 0.5 else "M",
                    view="AP" if rng.random() < 0.3 else "PA",
                )
            )
        return rows

    def embeddings(
        self,
        rows: Sequence[ScanRow],
        rng: np.random.Generator,
        shifted: Sequence[bool],
        shift: str,
    ) -> Singles:
        """Draw the scans' embeddings [n, d], those that are marked with a shift."""
        found = self.world.scans(len(rows), rng)
        mark = np.array(shifted)
        if mark.any():
            found[mark] = self.moved.scans(int(mark.sum()), rng, shift)
        stations = [station for _, station, _, _ in SCANNERS]
        looks = np.random.default_rng(self.seed).standard_normal(
            (len(stations), self.world.dimension)
        )
        scale = self.world.scans(2000, np.random.default_rng([self.seed, 1])).std(axis=0)
        at = [stations.index(row.station or "") for row in rows]
        return np.asarray(found + LOOK * scale * looks[at], dtype=np.float32)

    @property
    def moved(self) -> World:
        world = self.world
        return replace(
            world,
            mean_shift=STRENGTH * world.mean_shift,
            scale_shift=1 + STRENGTH * (world.scale_shift - 1),
        )


def measure(key: str) -> dict[str, Any]:
    """Return what was named, by place and size, and how many subgroups moved falsely."""
    name, _ = key.split("/")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    fleet = Fleet(world=worlds()[name], seed=zlib.crc32(key.encode()))
    known = fleet.scans(REFERENCE, rng, new_version=False)
    embedded = fleet.embeddings(known, rng, [False] * REFERENCE, "b")
    whole = ReferenceProfile.fit(embedded, None, seed=1)
    profiles = {
        subgroup: ReferenceProfile.fit(embedded[np.array(belongs)], None, seed=1)
        for subgroup, belongs in subgroups_of(known, ATTRIBUTES, at_least=1)
        if sum(belongs) >= LEAST_REFERENCE_PATIENTS
    }
    said: dict[str, Counter[str]] = {}
    moved = falsely = 0
    for size in SIZES:
        for place, holds in PLACES.items():
            for number in range(WINDOWS):
                rows = fleet.scans(size, rng, new_version=place.endswith("new version"))
                shifted = [holds(row) for row in rows]
                shift = SHIFTS[number % len(SHIFTS)]
                embeddings = fleet.embeddings(rows, rng, shifted, shift)
                tested = _tested(rows, embeddings, whole, profiles)
                answer = _answer(rows, shifted, locate(tested, scans=size).subgroup)
                if answer == "nowhere" and whole.check(embeddings).p_value > 0.05:
                    none_moved = not any(one.moved for one in tested)
                    answer = "nothing seen" if none_moved else answer
                said.setdefault(f"{place}/{size}", Counter())[answer] += 1
                there = {number for number, mark in enumerate(shifted) if mark}
                found = [one for one in tested if one.moved]
                moved += len(found)
                falsely += sum(not one.scans & there for one in found)
    return {
        "said": {cell: dict(one) for cell, one in said.items()},
        "moved": moved,
        "falsely": falsely,
    }


def _tested(
    rows: Sequence[ScanRow],
    embeddings: Singles,
    whole: ReferenceProfile,
    profiles: Mapping[Subgroup, ReferenceProfile],
) -> list[SubgroupVerdict]:
    """Test each subgroup against its own past, or that of the smallest one that holds it."""
    found = []
    for subgroup, belongs in subgroups_of(rows, ATTRIBUTES, at_least=FLOOR):
        places = np.flatnonzero(belongs)
        around = [one for one in profiles if all(one.holds(rows[place]) for place in places)]
        nearest = min(around, key=lambda one: profiles[one].scans, default=None)
        profile = profiles.get(subgroup) or (profiles[nearest] if nearest else whole)
        found.append((subgroup, places, profile.check(embeddings[places])))
    adjusted = benjamini_hochberg([verdict.p_value for _, _, verdict in found])
    return [
        SubgroupVerdict(
            subgroup=subgroup,
            scans=frozenset(places.tolist()),
            verdict=verdict,
            profile_digest="",
            compared_with=None,
            adjusted_p_value=p_value,
            persistence_p_value=p_value,
            adjusted_persistence_p_value=p_value,
            onset=_NOW,
        )
        for (subgroup, places, verdict), p_value in zip(found, adjusted, strict=True)
    ]


def _answer(rows: Sequence[ScanRow], shifted: Sequence[bool], named: Subgroup | None) -> str:
    if named is None:
        return "nowhere"
    held = np.array([named.holds(row) for row in rows])
    there = np.array(shifted)
    both, either = int((held & there).sum()), int((held | there).sum())
    if both >= LEAST_OVERLAP * either:
        return "the part"
    if not both:
        return "another"
    if both == held.sum():
        return "within it"
    return "around it" if both == there.sum() else "some of it"


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, in Markdown."""
    order = ("the part", "around it", "within it", "some of it", "another", "nowhere")
    order = (*order, "nothing seen")
    names = ", ".join(sorted({row["key"].split("/")[0] for row in rows}))
    moved, falsely = (sum(row[one] for row in rows) for one in ("moved", "falsely"))
    lines = [
        "### Which subgroup is named",
        "",
        f"Worlds {names}; {len(rows)} references of {REFERENCE:,} scans, five scanners at three "
        f"sites that look different ({LOOK} standard deviations), a floor of {FLOOR} scans. "
        f"Shifts *b* and *c*, {STRENGTH:g} times as large, in a part of the scans. In % of "
        "windows; *the part*: at least nine tenths of the named subgroup's scans and of those "
        f"that shift are the same. Of {moved:,} subgroups that moved (false-discovery rate .01) "
        f"{falsely:,} ({falsely / max(moved, 1):.2%}) held no shifted scan.",
        "",
        "| what shifts | scans | windows | " + " | ".join(order) + " |",
        "|---|---|---|" + "---|" * len(order),
    ]
    for place in PLACES:
        for size in SIZES:
            own: Counter[str] = Counter()
            for row in rows:
                own.update(row["said"][f"{place}/{size}"])
            total = sum(own.values())
            cells = " | ".join(f"{100 * own[one] / total:.1f}" for one in order)
            lines.append(f"| {place} | {size:,} | {total} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    results = Results("subgroup_places", folder=HERE / "results")
    keys = [f"{name}/{index}" for index in range(REFERENCES) for name in worlds()]
    results.measure(keys, measure, processes=chosen.processes)
    sys.stdout.write(report(results.rows()))


if __name__ == "__main__":
    main()
