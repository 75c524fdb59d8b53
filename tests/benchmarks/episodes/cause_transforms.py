"""What can happen to an image between the patient and the encoder, in families and strengths.

Each family is a function of an image in [0, 1], float32 [h, w], and a strength. Families are
divided between training, calibration and test, so that what is tested was never trained on.
Training and calibration see changes drawn at random, too (`cause_drawn`).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cause_drawn import drawn
from PIL import Image
from scipy.ndimage import (
    gaussian_filter,
    map_coordinates,
    median_filter,
    rotate,
    uniform_filter1d,
)

from api.demo.acquisition import Processing

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One family at one strength."""

    family: str
    strength: float

    @property
    def name(self) -> str:
        return f"{self.family}-{self.strength:g}" if self.family != "plain" else "plain"

    def render(self, image: Singles, *, seed: int) -> Singles:
        """Return the image as this chain sends it."""
        if self.family == "plain":
            return image
        if self.family.startswith(_DRAWN):
            change = drawn(self.family.removeprefix(_DRAWN), int(self.strength))
            return np.clip(change(image, seed), 0, 1).astype(np.float32)
        return np.clip(_FAMILIES[self.family](image, self.strength, seed), 0, 1).astype(
            np.float32
        )


def _resized(image: Singles, side: int, how: Image.Resampling) -> Singles:
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(picture.resize((side, side), how), dtype=np.float32)


def _processing(**settings: float) -> Callable[[Singles, int], Singles]:
    software = Processing(version="benchmark", **settings)
    return lambda image, seed: software.render(image, seed=seed)


def _jpeg(image: Singles, quality: float, _: int) -> Singles:
    stored = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(
        stored, "JPEG", quality=int(quality)
    )
    return np.asarray(Image.open(stored), dtype=np.float32) / 255


def _low_resolution(image: Singles, factor: float, _: int) -> Singles:
    small = _resized(image, round(len(image) * factor), Image.Resampling.BICUBIC)
    return _resized(small, len(image), Image.Resampling.BICUBIC)


def _pixelated(image: Singles, factor: float, _: int) -> Singles:
    small = _resized(image, round(len(image) * factor), Image.Resampling.NEAREST)
    return _resized(small, len(image), Image.Resampling.NEAREST)


def _zoom(image: Singles, margin: float, _: int) -> Singles:
    cut = round(margin * len(image))
    return _resized(image[cut : len(image) - cut, cut : len(image) - cut], len(image), _CUBIC)


def _shading(image: Singles, amount: float, _: int) -> Singles:
    return image * (1 - amount * np.linspace(0, 1, len(image), dtype=np.float32)[:, None])


def _translated(image: Singles, share: float, _: int) -> Singles:
    return np.roll(image, round(share * len(image)), axis=0)


def _grid(image: Singles, amount: float, _: int) -> Singles:
    lines = np.sin(2 * np.pi * np.arange(len(image)) / 5.0).astype(np.float32)
    return image + amount * lines[:, None]


def _collimated(image: Singles, share: float, _: int) -> Singles:
    cut = round(share * len(image))
    framed = np.zeros_like(image)
    inner = slice(cut, len(image) - cut)
    framed[inner, inner] = image[inner, inner]
    return framed


def _equalised(image: Singles, amount: float, _: int) -> Singles:
    ranks = np.searchsorted(np.sort(image, axis=None), image) / image.size
    return (1 - amount) * image + amount * ranks.astype(np.float32)


def _marked(image: Singles, share: float, _: int) -> Singles:
    marked = image.copy()
    height, width = round(share * len(image)), round(2.5 * share * len(image))
    marked[4 : 4 + height, 4 : 4 + width] = 1.0
    return marked


def _moving(image: Singles, share: float, _: int) -> Singles:
    return uniform_filter1d(image, max(2, round(share * len(image))), axis=0, mode="nearest")


def _impulses(image: Singles, share: float, seed: int) -> Singles:
    rng = np.random.default_rng([29, seed])
    hit = rng.random(image.shape) < share
    return np.where(hit, rng.integers(0, 2, image.shape), image).astype(np.float32)


def _doubled(image: Singles, amount: float, _: int) -> Singles:
    return (1 - amount) * image + amount * np.roll(image, len(image) // 9, axis=1)


def _vignetted(image: Singles, amount: float, _: int) -> Singles:
    along = np.linspace(-1, 1, len(image), dtype=np.float32)
    return image * (1 - amount * (along[:, None] ** 2 + along[None, :] ** 2) / 2)


def _stretched(image: Singles, margin: float, _: int) -> Singles:
    cut = round(margin * len(image))
    return _resized(image[cut : len(image) - cut], len(image), _CUBIC)


def _bent(image: Singles, amount: float, _: int) -> Singles:
    along = np.linspace(-1, 1, len(image))
    down, across = np.meshgrid(along, along, indexing="ij")
    bend = 1 - amount * (down**2 + across**2 - 1)
    half = (len(image) - 1) / 2
    at = [half + half * one * bend for one in (down, across)]
    return np.asarray(map_coordinates(image, at, order=1, mode="nearest"), dtype=np.float32)


def _lines_lost(image: Singles, share: float, seed: int) -> Singles:
    rng = np.random.default_rng([30, seed])
    return np.where(rng.random((len(image), 1)) < share, 0, image).astype(np.float32)


_CUBIC = Image.Resampling.BICUBIC
_FAMILIES: dict[str, Callable[[Singles, float, int], Singles]] = {
    "noise": lambda image, s, seed: _processing(noise=s)(image, seed),
    "edges": lambda image, s, seed: _processing(edge_amount=s)(image, seed),
    "tone": lambda image, s, seed: _processing(contrast=s)(image, seed),
    "blur": lambda image, s, _: gaussian_filter(image, s),
    "jpeg": _jpeg,
    "low-resolution": _low_resolution,
    "window": lambda image, s, _: (image - s) / (1 - 2 * s),
    "zoom": _zoom,
    "rotation": lambda image, s, _: rotate(image, s, reshape=False, order=1, mode="nearest"),
    "quantised": lambda image, s, _: np.round(image * (s - 1)) / np.float32(s - 1),
    "gamma": lambda image, s, _: image**s,
    "shading": _shading,
    "scatter": lambda image, s, _: (1 - s) * image + s * gaussian_filter(image, 14),
    "translated": _translated,
    "grid": _grid,
    "collimated": _collimated,
    "equalised": _equalised,
    "mirrored": lambda image, _s, _: image[:, ::-1],
    "pixelated": _pixelated,
    "denoised": lambda image, s, _: median_filter(image, int(s)),
    "inverted": lambda image, _s, _: 1 - image,
    "marked": _marked,
    "moving": _moving,
    "impulses": _impulses,
    "doubled": _doubled,
    "vignetted": _vignetted,
    "stretched": _stretched,
    "bent": _bent,
    "lines-lost": _lines_lost,
    "pedestal": lambda image, s, _: s + (1 - s) * image,
}

#: before the kind of a drawn change in the name of its family
_DRAWN = "drawn "
PLAIN = Variant(family="plain", strength=0)


def _variants(**strengths: tuple[float, ...]) -> tuple[Variant, ...]:
    return tuple(
        Variant(family=family.replace("_", "-"), strength=strength)
        for family, several in strengths.items()
        for strength in several
    )


#: families and strengths that are trained on
TRAINED = _variants(
    noise=(0.008, 0.02, 0.05),
    edges=(0.3, 0.7, 1.5),
    tone=(1.5, 3.0, 6.0),
    blur=(1.5, 2.2, 3.2),
    jpeg=(45, 20, 8),
    low_resolution=(0.22, 0.16, 0.12),
    window=(0.04, 0.08, 0.15),
    zoom=(0.02, 0.05, 0.09),
    rotation=(3, 6, 10),
    quantised=(16, 8, 5),
    moving=(0.03, 0.07),
    impulses=(0.004, 0.02),
    doubled=(0.1, 0.25),
    vignetted=(0.3, 0.6),
    stretched=(0.05, 0.1),
    bent=(0.05, 0.12),
    lines_lost=(0.02, 0.06),
    pedestal=(0.06, 0.15),
)
#: other strengths of the same families, seen at calibration and test only
OTHER_STRENGTHS = _variants(
    noise=(0.013,),
    edges=(1.1,),
    tone=(4.5,),
    blur=(1.8,),
    jpeg=(30,),
    low_resolution=(0.19,),
    window=(0.11,),
    zoom=(0.07,),
    rotation=(-8,),
    quantised=(12,),
)
#: families that only calibration sees
CALIBRATED = _variants(
    gamma=(1.3, 0.6),
    shading=(0.3, 0.5),
    scatter=(0.3, 0.5),
    translated=(0.06, 0.1),
)
#: families that only the test sees
TESTED = _variants(
    grid=(0.03, 0.08),
    collimated=(0.03, 0.06),
    equalised=(0.35, 0.8),
    mirrored=(1,),
    pixelated=(0.45, 0.3),
    denoised=(7,),
    inverted=(1,),
    marked=(0.07, 0.11),
)
#: how many changes of each kind are drawn, by part and chain
_DRAWS = {
    "training": {
        "tone": 8,
        "filter": 5,
        "warp": 4,
        "added": 8,
        "covered": 8,
        "noise": 3,
        "local": 5,
        "two": 10,
    },
    "calibration": {"tone": 1, "filter": 1, "added": 1, "covered": 2, "two": 2},
}


def variants(part: str, chain: str) -> tuple[Variant, ...]:
    """Return what happens to the scans of a part on a chain: what is drawn is drawn for each."""
    listed = {
        "training": TRAINED,
        "calibration": (*CALIBRATED, *OTHER_STRENGTHS),
        "test": (*TESTED, *OTHER_STRENGTHS),
    }[part]
    first = 1000 * (zlib.crc32(f"{part}/{chain}".encode()) % 1000)
    return listed + tuple(
        Variant(family=f"{_DRAWN}{kind}", strength=first + number)
        for kind, count in _DRAWS.get(part, {}).items()
        for number in range(count)
    )
