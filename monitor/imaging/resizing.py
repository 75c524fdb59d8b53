"""Resizing with an antialiasing filter, strip by strip, so that no large image lies in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage

from monitor.imaging.images import Box, Image
from monitor.imaging.voi import Floats
from registry.bundles.preprocessing import Fit, Preprocessing, Resample

#: rows -> what is shown there, float32 [rows, w] or [rows, w, 3] in [0, 1]
Rows: TypeAlias = Callable[[slice], Floats]

_FILTERS = {
    Resample.BOX: PillowImage.Resampling.BOX,
    Resample.BILINEAR: PillowImage.Resampling.BILINEAR,
    Resample.BICUBIC: PillowImage.Resampling.BICUBIC,
}
# Pixels of a strip: its values stay in the core's own cache.
_STRIP = 1 << 17
# Two factors that differ by less come of rounding one size.
_ALIKE = 1.05


def fitted(shown: Rows, image: Image, preprocessing: Preprocessing) -> Floats:
    """Return an image in [0, 1] at the declared size, [h, w], or [3, h, w] in color."""
    size = preprocessing.size
    match preprocessing.fit:
        case Fit.STRETCH:
            resized = _scaled(shown, image, size, preprocessing.resample)
        case Fit.PAD:
            inner = scaled_to_fit(shown, image, size, preprocessing.resample)
            height, width = inner.shape[:2]
            resized = np.zeros((*size, *inner.shape[2:]), dtype=np.float32)
            top, left = (size[0] - height) // 2, (size[1] - width) // 2
            resized[top : top + height, left : left + width] = inner
    clipped: Floats = np.clip(resized, 0, 1)
    return clipped.transpose(2, 0, 1) if clipped.ndim == 3 else clipped


def scaled_to_fit(
    shown: Rows, image: Image, size: tuple[int, int], resample: Resample
) -> Floats:
    """Return an image as large as fits into (height, width), its proportions kept."""
    left, top, right, bottom = image.box
    sides = bottom - top, right - left
    factor = min(size[0] / sides[0], size[1] / sides[1])
    height, width = (
        min(max(round(side * factor), 1), most) for side, most in zip(sides, size, strict=True)
    )
    return _scaled(shown, image, (height, width), resample)


def _scaled(shown: Rows, image: Image, size: tuple[int, int], resample: Resample) -> Floats:
    height, width = image.shape
    if not image.skipped_levels:
        if size == image.shape:
            return shown(slice(None))
        # Where the height shrinks much more than the width, Pillow goes the other
        # way round, and the last bits would differ.
        across_first = height * size[1] <= _ALIKE * width * size[0]
        if not image.is_color and height * width > 2 * _STRIP and across_first:
            return _by_strips(shown, image, size, resample)
    whole = shown(slice(None))
    if whole.ndim == 3:
        planes = [
            _resized(whole[:, :, channel], image.box, size, resample) for channel in range(3)
        ]
        return np.stack(planes, axis=2)
    return _resized(whole, image.box, size, resample)


def _by_strips(shown: Rows, image: Image, size: tuple[int, int], resample: Resample) -> Floats:
    """Resize across, strip by strip, and then down: as Pillow does it at once, to the bit."""
    height, width = image.shape
    rows = max(_STRIP // width, 1)
    strips = []
    for start in range(0, height, rows):
        strip = shown(slice(start, start + rows))
        strips.append(
            _resized(strip, (0, 0, width, len(strip)), (len(strip), size[1]), resample)
        )
    return _resized(np.concatenate(strips), (0, 0, size[1], height), size, resample)


def _resized(plane: Floats, box: Box, size: tuple[int, int], resample: Resample) -> Floats:
    if box[0] > 0:
        # The last pixels of a reduced image stand for those behind them, too.
        plane = np.pad(plane, ((0, 1), (0, 1)), mode="edge")
    # Pillow's filters widen with the reduction, so that nothing aliases; on
    # float32 ("F") nothing is rounded between the two passes.
    picture = PillowImage.fromarray(np.ascontiguousarray(plane))
    scaled = picture.resize((size[1], size[0]), resample=_FILTERS[resample], box=box)
    return np.asarray(scaled, dtype=np.float32)
