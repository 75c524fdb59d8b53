"""Small changes of the acquisition, made to what an encoder is shown of the locked scans.

Each is of the size that differs between two days or two machines that nobody would call drift:
a tone curve a tenth steeper or flatter, the noise of a little less dose, a detector that is a
little less sharp, a patient who stands a pixel or two aside, an archive that compresses. They
are made after the window and the resize, on gray values from 0 (black) to 1 (white), so that
both models see the same change at the same place, whatever each makes of the pixels then.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from monitor.embedding.embedding import Embedder
from monitor.tables import ScanRow
from registry.bundle_store import BundleStore
from registry.bundles.heads import Task
from registry.bundles.preprocessing import Preprocessing
from registry.errors import BadInputError, NotFoundError
from registry.versions import VersionRow

Pixels: TypeAlias = npt.NDArray[np.float32]

#: Exponents of the tone curve.
DARKER, BRIGHTER = 1.1, 0.9
#: Standard deviation of the noise, as a share of white.
NOISE = 0.02
#: Standard deviation of the blur, in pixels of the encoder's input.
BLUR = 0.7
#: Of JPEG, from 1 to 95.
QUALITY = 75
#: Scans that are held in memory at a time.
_TOGETHER = 64
_SEED = 7


def _curve(exponent: float) -> Callable[[Pixels], Pixels]:
    return lambda gray: gray ** np.float32(exponent)


def _noisy(gray: Pixels) -> Pixels:
    # One pattern for every scan and both models: no difference between them is luck.
    pattern = np.random.default_rng(_SEED).normal(0.0, NOISE, size=gray.shape[-2:])
    return gray + pattern.astype(np.float32)


def _blurred(gray: Pixels) -> Pixels:
    blurred: Pixels = gaussian_filter(gray, sigma=(0.0, 0.0, BLUR, BLUR), mode="nearest")
    return blurred


def _moved(down: int, right: int) -> Callable[[Pixels], Pixels]:
    def moved(gray: Pixels) -> Pixels:
        padding = (
            (0, 0),
            (0, 0),
            (max(down, 0), max(-down, 0)),
            (max(right, 0), max(-right, 0)),
        )
        padded = np.pad(gray, padding, mode="edge")
        top, left = max(-down, 0), max(-right, 0)
        height, width = gray.shape[-2:]
        return padded[:, :, top : top + height, left : left + width]

    return moved


def _compressed(gray: Pixels) -> Pixels:
    return np.stack([np.stack([_through_jpeg(plane) for plane in scan]) for scan in gray])


def _through_jpeg(plane: Pixels) -> Pixels:
    stream = io.BytesIO()
    levels = np.rint(255.0 * plane).astype(np.uint8)
    Image.fromarray(levels).save(stream, format="JPEG", quality=QUALITY)
    with Image.open(stream) as image:
        return np.asarray(image, dtype=np.float32) / np.float32(255.0)


#: By the names that gates use; each takes and returns float32 [n, channels, h, w] from 0 to 1.
CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "a darker tone curve": _curve(DARKER),
    "a brighter tone curve": _curve(BRIGHTER),
    "noise": _noisy,
    "blur": _blurred,
    "a shift by 1 pixel": _moved(1, 0),
    "a shift by 2 pixels": _moved(0, -2),
    "JPEG compression": _compressed,
}


def changed(pixels: Pixels, preprocessing: Preprocessing, *, by: str) -> Pixels:
    """Return an encoder's inputs under one of the changes.

    Parameters
    ----------
    pixels : as the preprocessing prepares them, float32 [n, 3, h, w]
    by : a name in `CHANGES`
    """
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    gray = np.clip(pixels * std + mean, 0.0, 1.0)
    return ((np.clip(CHANGES[by](gray), 0.0, 1.0) - mean) / std).astype(np.float32)


def read_changed(
    embedder: Embedder,
    bundles: BundleStore,
    version: VersionRow,
    scans: Sequence[ScanRow],
    *,
    task: Task,
) -> dict[str, npt.NDArray[np.float64]] | None:
    """Return the probability of each of a task's classes for each scan [n, k] under each change.

    None where the scans' pixels are no longer kept, or a scan is read as several images.
    """
    bundle, encoder = bundles.open(version), embedder.encoder(version)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in CHANGES}
    for start in range(0, len(scans), _TOGETHER):
        try:
            pixels = embedder.pixels(bundle, scans[start : start + _TOGETHER])
        except (BadInputError, NotFoundError):
            return None
        for name, read in parts.items():
            encoded = encoder.embed(changed(pixels, bundle.preprocessing, by=name))
            read.append(encoded.probabilities[task.name])
    return {name: np.concatenate(read).astype(np.float64) for name, read in parts.items()}
