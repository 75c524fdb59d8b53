"""Which real scans play which part: head, references, and pools to draw windows from.

Everything ships: children and adults of the demo's sample, MR images of the sample, and the
test images that pydicom brings. No patient stands in two parts; the children's source names
no patients, so that there an image counts as one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom import dcmread
from scipy.ndimage import zoom as scaled

from api.demo.radiographs import CHILD_SIDE
from api.demo.sample import Adult, load_sample

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SOURCE_SIDE = 28
#: PneumoniaMNIST's own test images, which differ from the others in more than prevalence
NATURAL = slice(5232, 5856)
POOLS = ("training", "calibration", "test")
#: children by part and class (normal, pneumonia), taken from a random order of each class
_COUNTS = {
    "head": (190, 535),
    "stock": (500, 900),
    "training": (220, 820),
    "calibration": (180, 640),
    "test": (259, 988),
}
#: adults by pool
_ADULTS = {"training": 45, "calibration": 35, "test": 50}
_ROUTED = {"training": 96, "calibration": 72, "test": 120}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scans:
    """Images of one source for one part."""

    #: [n, 112, 112] in [0, 1]
    images: Singles
    #: [n] of the children 0 or 1; -1 where it is not known
    pneumonia: Integers
    #: [n]
    patients: Integers
    #: [n] what an image is of: "child", "adult", or a family of what does not belong here
    family: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)


def shown(pixels: npt.NDArray[np.generic], *, side: int = SOURCE_SIDE) -> Singles:
    """Return an image on the children's chain: scaled to the source's size, then up."""
    picture = Image.fromarray(pixels.astype(np.float32))
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    large = picture.resize((CHILD_SIDE, CHILD_SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large, dtype=np.float32) / 255, 0, 1)


@cache
def children(part: str) -> Scans:
    """Return the children of a part, or those of the source's own test set ("natural")."""
    sample = load_sample().children
    rows = np.arange(len(sample))[NATURAL] if part == "natural" else _child_rows()[part]
    chosen = [sample[i] for i in rows]
    return Scans(
        images=np.stack([shown(one.pixels) for one in chosen]),
        pneumonia=np.array([one.pneumonia for one in chosen], dtype=np.int64),
        patients=rows.astype(np.int64),
        family=np.full(len(rows), "child"),
    )


@cache
def _child_rows() -> dict[str, Integers]:
    sample = load_sample().children[: NATURAL.start]
    ill = np.array([one.pneumonia for one in sample])
    order = np.random.default_rng(20).permutation(len(sample))
    by_class = [order[ill[order] == value] for value in (0, 1)]
    rows: dict[str, list[Integers]] = {}
    for value, own in enumerate(by_class):
        start = 0
        for part, counts in _COUNTS.items():
            rows.setdefault(part, []).append(own[start : start + counts[value]])
            start += counts[value]
    return {part: np.sort(np.concatenate(both)) for part, both in rows.items()}


def raw_children(part: str) -> Singles:
    """Return a part's images as the source holds them, [n, 784] in [0, 1]."""
    sample = load_sample().children
    rows = children(part).patients
    return np.stack([sample[i].pixels.ravel() for i in rows]).astype(np.float32) / 255


@cache
def adults(pool: str) -> Scans:
    """Return a pool's adults, brought to the children's resolution.

    What is left of the difference is who was imaged, not how finely.
    """
    chosen = _adults(pool)
    return Scans(
        images=np.stack([shown(one.pixels) for one in chosen]),
        pneumonia=np.full(len(chosen), -1),
        patients=np.array([one.patient for one in chosen], dtype=np.int64) + 1_000_000,
        family=np.full(len(chosen), "adult"),
    )


def adult_facts(pool: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return what is known of a pool's adults beside their images, [n] each."""
    chosen = _adults(pool)
    return {
        "age": np.array([one.age_years for one in chosen], dtype=np.float64),
        "sex": np.array([one.sex == "F" for one in chosen], dtype=np.float64),
        "view": np.array([one.view == "AP" for one in chosen], dtype=np.float64),
    }


def _adults(pool: str) -> list[Adult]:
    sample = load_sample().adults
    patients = np.array([one.patient for one in sample])
    order = np.random.default_rng(21).permutation(np.unique(patients))
    ends = np.cumsum(list(_ADULTS.values()))
    at = list(_ADULTS).index(pool)
    own = set(order[ends[at] - _ADULTS[pool] : ends[at]].tolist())
    return [one for one in sample if one.patient in own]


@cache
def routed(pool: str) -> Scans:
    """Return a pool's images that do not belong here, each source under several views."""
    sources = _routed_sources(pool)
    rng = np.random.default_rng([22, POOLS.index(pool)])
    images, family, patients = [], [], []
    for number in range(_ROUTED[pool]):
        at = number % len(sources)
        kind, image = sources[at]
        images.append(_viewed(image, rng))
        family.append(kind)
        patients.append(2_000_000 + number)
    return Scans(
        images=np.stack(images),
        pneumonia=np.full(len(images), -1),
        patients=np.array(patients, dtype=np.int64),
        family=np.array(family),
    )


def _viewed(image: Singles, rng: np.random.Generator) -> Singles:
    """Return an image of a source as another acquisition of the same kind may look."""
    turned = np.rot90(image, int(rng.integers(4)))
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    keep = rng.uniform(0.75, 1.0)
    height, width = (max(16, round(keep * side)) for side in turned.shape)
    top = int(rng.integers(turned.shape[0] - height + 1))
    left = int(rng.integers(turned.shape[1] - width + 1))
    part = Image.fromarray(
        np.ascontiguousarray(turned[top : top + height, left : left + width])
    )
    large = np.asarray(part.resize((CHILD_SIDE, CHILD_SIDE), Image.Resampling.BICUBIC))
    return np.clip(large, 0, 1).astype(np.float32) ** np.float32(rng.uniform(0.8, 1.25))


def _routed_sources(pool: str) -> list[tuple[str, Singles]]:
    with as_file(files("api.demo") / "sample" / "magnetic") as folder:
        slices = {path.name: dcmread(path).pixel_array for path in sorted(folder.glob("*.dcm"))}
    brains = {
        "training": ("GE_s4", "GE_s5"),
        "calibration": ("GE_s6", "GE_s7"),
        "test": ("SIEMENS",),
    }[pool]
    sources = [
        ("mr", _windowed(pixels)) for name, pixels in slices.items() if name.startswith(brains)
    ]
    if pool == "test":
        others = {
            "ct": ("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"),
            "mr": ("MR_small.dcm", "examples_overlay.dcm"),
            "nm": ("JPEG2000.dcm",),
            "us": ("examples_jpeg2k.dcm", "examples_palette.dcm", "examples_rgb_color.dcm"),
        }
        sources += [(kind, _foreign(name)) for kind, names in others.items() for name in names]
    if pool == "training":
        # As many phantoms as slices: routing is no matter of brains.
        sources += [("phantom", phantom) for phantom in _phantoms()]
    return sources


def _foreign(name: str) -> Singles:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = dcmread(path).pixel_array
    return _windowed(pixels.mean(axis=-1) if pixels.ndim == 3 else pixels)


def _windowed(pixels: npt.NDArray[np.generic]) -> Singles:
    values = pixels.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    shown = np.clip((values - low) / max(float(high - low), 1.0), 0, 1)
    factor = 256 / max(shown.shape)
    return np.clip(scaled(shown, factor, order=1), 0, 1) if factor < 1 else shown


def _phantoms() -> list[Singles]:
    """Return test objects of quality assurance: wedges, bars, discs, a line pattern."""
    side = 128
    down, across = np.mgrid[0:side, 0:side].astype(np.float32) / side
    steps = np.floor(across * 8) / 8
    bars = (np.sin(2 * np.pi * across * 12) > 0).astype(np.float32)
    radius = np.hypot(down - 0.5, across - 0.5)
    disc = np.where(radius < 0.35, 0.8, 0.1).astype(np.float32)
    rings = (0.5 + 0.5 * np.cos(2 * np.pi * radius * 10)).astype(np.float32)
    flood = np.full((side, side), 0.5, dtype=np.float32) + 0.02 * np.sin(40 * down)
    chart = (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 30 * across**2))).astype(np.float32)
    return [one.astype(np.float32) for one in (steps, bars, disc, rings, flood, chart)]
