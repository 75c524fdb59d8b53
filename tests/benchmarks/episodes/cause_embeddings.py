"""Every image under every variant, embedded once by both encoders, beside its pixel measures.

    python tests/benchmarks/episodes/cause_embeddings.py [--cache FOLDER]

Kept in a folder outside the repository, a file for each chain, part, source and variant, so
that a run can stop and go on. Windows are drawn from there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Before numpy is loaded.
for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.append(str(Path(__file__).parents[1] / "drift"))

import numpy as np  # noqa: E402  after the thread limits
import numpy.typing as npt  # noqa: E402
from cause_encoders import ENCODERS, embed  # noqa: E402
from cause_sources import POOLS, Scans, adults, children, routed  # noqa: E402
from cause_transforms import PLAIN, Variant, variants  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from api.demo.acquisition import Processing  # noqa: E402
from monitor.imaging.pixel_measures import pixel_measures  # noqa: E402

CACHE = Path(tempfile.gettempdir()) / "driftward-causes"
#: "even": every scan as the source holds it. "uneven": a fleet whose scans differ in dose,
#: sharpness and gray values from one to the next, as they do in a hospital.
CHAINS = ("even", "uneven")
_SOURCES = {"children": children, "adults": adults, "routed": routed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One source's scans of one part, by one chain, under one variant."""

    chain: str
    source: str
    part: str
    variant: Variant

    def path(self, cache: Path) -> Path:
        return cache / self.chain / f"{self.source}-{self.part}" / f"{self.variant.name}.npz"

    @property
    def scans(self) -> Scans:
        return _SOURCES[self.source](self.part)

    def images(self) -> npt.NDArray[np.float32]:
        """Render the images, [n, 112, 112]."""
        scans = self.scans
        return np.stack(
            [
                self.variant.render(_sent(image, self.chain, seed), seed=seed + 5_000_000)
                for image, seed in zip(scans.images, scans.patients.tolist(), strict=True)
            ]
        )


def units() -> Iterator[Unit]:
    """Yield every unit, those that others rest on first."""
    for chain in CHAINS:
        for part in ("head", "stock", "natural"):
            yield Unit(chain=chain, source="children", part=part, variant=PLAIN)
        for part in POOLS:
            yield Unit(chain=chain, source="routed", part=part, variant=PLAIN)
    for part in POOLS:
        for chain in CHAINS:
            for variant in (PLAIN, *variants(part, chain)):
                for source in ("children", "adults"):
                    yield Unit(chain=chain, source=source, part=part, variant=variant)


def load(unit: Unit, cache: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return a unit's embeddings by encoder, [n, 1280], and its measures, [n, m]."""
    with np.load(unit.path(cache), allow_pickle=False) as kept:
        return {name: kept[name].astype(np.float32) for name in kept.files}


def make(cache: Path) -> None:
    """Embed what lacks."""
    for unit in units():
        path = unit.path(cache)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        images = unit.images()
        arrays = {name: embed(name, images).astype(np.float16) for name in ENCODERS}
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **arrays, measures=pixel_measures(images).astype(np.float32))
        unfinished.replace(path)
        sys.stderr.write(f"{path.relative_to(cache)}\n")


def _sent(image: npt.NDArray[np.float32], chain: str, seed: int) -> npt.NDArray[np.float32]:
    if chain == "even":
        return image
    rng = np.random.default_rng([23, seed])
    blurred = gaussian_filter(image, rng.uniform(0.0, 0.9))
    toned = np.clip(blurred, 0, 1) ** np.float32(np.exp(0.08 * rng.standard_normal()))
    noise = 0.008 * float(np.exp(0.6 * rng.standard_normal()))
    return Processing(version="uneven", noise=noise).render(toned, seed=seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    make(parser.parse_args().cache)
