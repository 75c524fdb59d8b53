"""Patterns of windows: references fitted, banks seen through them, windows drawn and measured.

    python tests/benchmarks/episodes/cause_evidence.py [--cache FOLDER] [PART ...]

A unit is a part, a reference, a size of window and a run of windows; its patterns are kept in
the cache, for both assignments of the two encoders to monitor and champion.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

# Before numpy is loaded.
for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.append(str(Path(__file__).parents[1] / "drift"))

import numpy as np  # noqa: E402  after the thread limits
import numpy.typing as npt  # noqa: E402
from cause_embeddings import CACHE, Unit, load  # noqa: E402
from cause_encoders import ENCODERS  # noqa: E402
from cause_peer import Peer  # noqa: E402
from cause_sources import children  # noqa: E402
from cause_transforms import PLAIN  # noqa: E402
from cause_windows import Plan, Pool, Truth, Window, draw, plans  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from monitor.imaging.pixel_measures import MEASURES  # noqa: E402
from monitor.profiles import ReferenceProfile  # noqa: E402
from monitor.statistics.attribution.findings import FindingReference  # noqa: E402
from monitor.statistics.attribution.pattern import (  # noqa: E402
    AttributionReference,
    Pattern,
    SpaceShift,
    pattern,
)
from monitor.statistics.attribution.pixel_shift import PixelReference  # noqa: E402
from monitor.statistics.attribution.shifts import statistics  # noqa: E402
from monitor.statistics.attribution.spaces import SeenScans, SpaceReference  # noqa: E402
from monitor.statistics.patients import Patients  # noqa: E402
from monitor.statistics.performance.recalibration import CalibratedReference  # noqa: E402

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: chain, and children without and with the finding, of each reference
REFERENCES = {"A": ("even", 317, 900), "B": ("uneven", 500, 500)}
#: monitoring encoder and champion's encoder
ROLES = (("mobilenet", "efficientnet"), ("efficientnet", "mobilenet"))
#: windows of each truth in a unit, by part
_EACH = {
    "training": {Truth.TECHNICAL: 70, Truth.MIXED: 70, Truth.NONE: 0},
    "calibration": {Truth.TECHNICAL: 50, Truth.MIXED: 50, Truth.NONE: 10},
    "test": {Truth.TECHNICAL: 60, Truth.MIXED: 60, Truth.NONE: 50},
}
_OTHERS = {"training": 30, "calibration": 25, "test": 50}
#: sizes of windows, and runs of each
SIZES = {
    "training": {80: 3, 120: 4, 170: 5, 240: 5, 330: 5, 450: 4},
    "calibration": {100: 4, 200: 5, 300: 3},
    "test": {100: 4, 200: 4, 500: 4},
}
#: runs that the peer sees, too; its tests permute some 1,500 scans
_PEER_RUNS = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One encoder's reference: profile, head, and what it knows of the finding."""

    profile: ReferenceProfile
    space: SpaceReference
    seen: SeenScans
    calibrated: CalibratedReference
    finding: FindingReference
    embeddings: npt.NDArray[np.float32]
    head: object


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bank:
    """A pool's scans as one encoder sees them."""

    seen: SeenScans
    embeddings: npt.NDArray[np.float32]
    probabilities: Floats


def reference_rows(name: str) -> Integers:
    """Return the stock's children that make up a reference."""
    _, without, having = REFERENCES[name]
    ill = children("stock").pneumonia
    rng = np.random.default_rng([24, ord(name)])
    return np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(ill == value))[:count]
                for value, count in ((0, without), (1, having))
            ]
        )
    )


@once
def view(reference: str, encoder: str, cache: Path) -> View:
    """Fit one encoder's view of a reference."""
    chain = REFERENCES[reference][0]
    stock, head = (
        load(Unit(chain=chain, source="children", part=part, variant=PLAIN), cache)[encoder]
        for part in ("stock", "head")
    )
    rows = reference_rows(reference)
    embeddings, ill = stock[rows], children("stock").pneumonia[rows].astype(np.float64)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000))
    classifier.fit(head, children("head").pneumonia)
    scores = classifier.predict_proba(embeddings)[:, 1]
    calibrated = CalibratedReference.fit(scores, ill, seed=0)
    profile = ReferenceProfile.fit(embeddings, seed=0)
    patients = Patients.of(None, scans=len(embeddings))
    space = SpaceReference.fit(profile.portfolio, embeddings, patients, ill, seed=0)
    seen = space.see(embeddings)
    finding = FindingReference.fit(space, seen, calibrated.probabilities(scores), ill)
    return View(
        profile=profile,
        space=space,
        seen=seen,
        calibrated=calibrated,
        finding=finding,
        embeddings=embeddings,
        head=classifier,
    )


@once
def pixels(reference: str, cache: Path) -> PixelReference:
    """Fit a reference's pixel measures."""
    return PixelReference.fit(
        _own_measures(reference, cache),
        children("stock").pneumonia[reference_rows(reference)].astype(np.float64),
        names=tuple(MEASURES),
        aspects=tuple(MEASURES.values()),
    )


def _own_measures(reference: str, cache: Path) -> Floats:
    unit = Unit(chain=REFERENCES[reference][0], source="children", part="stock", variant=PLAIN)
    return load(unit, cache)["measures"][reference_rows(reference)].astype(np.float64)


def bank(reference: str, encoder: str, pool: Pool, cache: Path) -> Bank:
    """See a pool's scans through one encoder's view of a reference."""
    own = view(reference, encoder, cache)
    embeddings = np.concatenate(
        [
            load(Unit(chain=pool.chain, source=source, part=pool.part, variant=variant), cache)[
                encoder
            ]
            for source, variant in pool.order(pool.part, pool.chain)
        ]
    )
    scores = own.head.predict_proba(embeddings)[:, 1]  # type: ignore[attr-defined]
    return Bank(
        seen=own.space.see(embeddings),
        embeddings=embeddings,
        probabilities=own.calibrated.probabilities(scores),
    )


def measures(pool: Pool, cache: Path) -> Floats:
    """Return a pool's pixel measures."""
    return np.concatenate(
        [
            load(Unit(chain=pool.chain, source=source, part=pool.part, variant=variant), cache)[
                "measures"
            ]
            for source, variant in pool.order(pool.part, pool.chain)
        ]
    ).astype(np.float64)


class Measured:
    """A part's pool through one reference, ready to measure windows."""

    def __init__(self, part: str, reference: str, cache: Path) -> None:
        self.part, self.reference = part, reference
        self.pool = Pool.of(part, REFERENCES[reference][0])
        self.banks = {name: bank(reference, name, self.pool, cache) for name in ENCODERS}
        self.views = {name: view(reference, name, cache) for name in ENCODERS}
        self.measures, self.pixels = measures(self.pool, cache), pixels(reference, cache)
        self.patients = self.pool.patients()
        self.references = {roles: self._reference(roles, cache) for roles in ROLES}
        self.prevalence = float(children("stock").pneumonia[reference_rows(reference)].mean())

    def _reference(self, roles: tuple[str, str], cache: Path) -> AttributionReference:
        monitoring, champion = (self.views[name] for name in roles)
        own = _own_measures(self.reference, cache)
        return AttributionReference.of(
            monitoring=(monitoring.space, monitoring.seen),
            champion=(champion.space, champion.seen),
            finding=champion.finding,
            pixels=self.pixels,
            measures=own,
            patients=Patients.of(None, scans=len(own)),
            seed=0,
        )

    def shifts(self, window: Window) -> dict[str, SpaceShift]:
        """Look at a window through either encoder."""
        patients = Patients.of(self.patients[window.rows], scans=len(window.rows))
        return {
            name: SpaceShift.of(
                self.views[name].space, own.seen.rows(window.rows), patients, window.scanners
            )
            for name, own in self.banks.items()
        }

    def pattern(
        self, window: Window, shifts: dict[str, SpaceShift], roles: tuple[str, str]
    ) -> Pattern:
        """Return a window's pattern for (monitoring encoder, champion's encoder)."""
        monitoring, champion = roles
        return pattern(
            self.references[roles],
            monitoring=shifts[monitoring],
            champion=shifts[champion],
            probabilities=self.banks[champion].probabilities[window.rows],
            measures=self.measures[window.rows],
            patients=Patients.of(self.patients[window.rows], scans=len(window.rows)),
        )

    @staticmethod
    def p_value(shift: SpaceShift) -> float:
        """Return the portfolio's p-value, as a check of the window's embeddings gives it."""
        portfolio, own = shift.space.portfolio, shift.sums
        found = statistics(shift.space, own, prevalence=shift.space.prevalence)
        weights = _weights(shift.space)
        return portfolio._judge(found, weights, own.patients)[0]

    def feasible(self, plan: Plan, scans: int) -> bool:
        """Return whether a pool has enough children without the finding for a plan."""
        lacking = (children(self.part).pneumonia == 0).sum()
        share = 1.0 - self.prevalence - plan.prevalence
        return bool(scans * share <= 1.02 * lacking and 0.03 < share < 0.97)


@once
def _weights(space: SpaceReference) -> Floats:
    return np.array([member.weight for member in space.portfolio.members])


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A run of windows of one part, reference and size."""

    part: str
    reference: str
    scans: int
    run: int

    @property
    def key(self) -> str:
        return f"{self.part}/{self.reference}/{self.scans}/{self.run}"

    def path(self, cache: Path) -> Path:
        return cache / "patterns" / f"{self.key.replace('/', '-')}.npz"


def blocks(part: str) -> Iterator[Block]:
    """Yield a part's blocks, reference by reference."""
    for reference in REFERENCES:
        for scans, runs in SIZES[part].items():
            for run in range(runs):
                yield Block(part=part, reference=reference, scans=scans, run=run)


def windows(block: Block, measured: Measured) -> Iterator[Window]:
    """Draw a block's windows."""
    rng = np.random.default_rng(zlib.crc32(block.key.encode()))
    for truth, several in plans(block.part, measured.pool.chain).items():
        possible = [one for one in several if measured.feasible(one, block.scans)]
        count = _EACH[block.part].get(truth, _OTHERS[block.part])
        if not possible or not count:
            continue
        for at in _in_turn(possible, count, rng, by_kind=block.part != "test"):
            yield draw(
                possible[at],
                measured.pool,
                scans=block.scans,
                prevalence=measured.prevalence,
                rng=rng,
            )


def _in_turn(
    several: list[Plan], count: int, rng: np.random.Generator, *, by_kind: bool
) -> list[int]:
    """Return `count` plans, each as often as the others, in random order over runs.

    By kind each of what can be mixed comes as often, however many ways there are of it.
    """
    if not by_kind or several[0].truth is not Truth.MIXED:
        turns = [rng.permutation(len(several)) for _ in range(count)]
        return [int(at) for at in np.concatenate(turns)[:count]]
    kinds = sorted({plan.what for plan in several})
    each = -(-count // len(kinds))
    chosen = []
    for kind in kinds:
        own = np.flatnonzero([plan.what == kind for plan in several])
        chosen.append(np.concatenate([rng.permutation(own) for _ in range(each)])[:each])
    return [int(at) for at in np.stack(chosen, axis=1).ravel()[:count]]


def measure(block: Block, measured: Measured, cache: Path) -> None:
    """Measure a block's windows, and keep them."""
    rows: dict[str, list[object]] = {}

    def keep(**facts: object) -> None:
        for name, value in facts.items():
            rows.setdefault(name, []).append(value)

    names: tuple[tuple[str, str], ...] = ()
    peers = {
        roles: Peer(measured.views[roles[0]].embeddings, measured.views[roles[1]])
        for roles in ROLES
    }
    for number, window in enumerate(windows(block, measured)):
        shifts = measured.shifts(window)
        p_value = min(1.0, 2 * min(measured.p_value(shift) for shift in shifts.values()))
        for roles in ROLES:
            found = measured.pattern(window, shifts, roles)
            names = found.names
            said = ""
            if block.part == "test" and block.run < _PEER_RUNS:
                said = peers[roles].identify(
                    measured.banks[roles[0]].embeddings[window.rows],
                    measured.banks[roles[1]].probabilities[window.rows],
                    seed=number,
                )
            keep(
                values=found.values,
                truth=window.plan.truth.value,
                what=window.plan.what,
                variant=window.plan.variant.name,
                scanner=window.plan.scanner or "",
                roles="/".join(roles),
                p_value=p_value,
                peer=said,
                window=number,
            )
    path = block.path(cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            names=np.array(["|".join(one) for one in names]),
            **{name: np.array(values) for name, values in rows.items()},
        )
    unfinished.replace(path)
    sys.stderr.write(f"{block.key}: {len(rows['truth'])}\n")


def make(parts: list[str], cache: Path) -> None:
    """Measure what lacks."""
    for part in parts:
        for reference in REFERENCES:
            lacking = [
                block
                for block in blocks(part)
                if block.reference == reference and not block.path(cache).exists()
            ]
            if not lacking:
                continue
            measured = Measured(part, reference, cache)
            for block in lacking:
                measure(block, measured, cache)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["training", "calibration", "test"])
    parser.add_argument("--cache", type=Path, default=CACHE)
    chosen = parser.parse_args()
    make(chosen.parts, chosen.cache)
