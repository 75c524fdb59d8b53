"""From a stored scan to an encoder's input: the one pixel path, for training and monitoring.

`decode` carries out what belongs to the image (PS3.3 C.7.6.3 and C.11.1: the
stored samples, their color space, the modality LUT), `prepare` what a
bundle's preprocessing declares. Both are deterministic, and exact to float32.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from monitor.intake.reasons import Reason, unreadable
from monitor.stored_samples import stored_samples
from monitor.voi import Floats, Voi, VoiFunction, VoiTable, VoiWindow, ramp
from registry.bundles.preprocessing import (
    DicomWindow,
    Fit,
    PercentileWindow,
    Preprocessing,
    Resample,
)

Mask: TypeAlias = npt.NDArray[np.bool_]
#: left, top, right, bottom
Box: TypeAlias = tuple[float, float, float, float]

_FILTERS = {
    Resample.BOX: PillowImage.Resampling.BOX,
    Resample.BILINEAR: PillowImage.Resampling.BILINEAR,
    Resample.BICUBIC: PillowImage.Resampling.BICUBIC,
}
_LARGEST_THUMBNAIL = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One decoded image, with what is needed to show its values."""

    #: gray: float32 [h, w] after the modality LUT, in its units (HU for CT);
    #: color: float32 [h, w, 3], RGB in [0, 1]
    values: Floats
    inverted: bool = False  #: MONOCHROME1: the lowest value is white
    voi: Voi | None = None  #: the first window or table that the instance carries
    padding: Mask | None = None  #: [h, w], true where there is no image
    #: wavelet levels that were left out, and (rows, columns) with them
    skipped_levels: int = 0
    full_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.dtype != np.float32 or not (
            self.values.ndim == 2 or (self.values.ndim == 3 and shape[2] == 3)
        ):
            raise ValueError(f"an image is float32 [h, w] or [h, w, 3], not {list(shape)}")
        if self.padding is not None and self.padding.shape != shape[:2]:
            raise ValueError("padding must have the image's height and width")
        if (self.skipped_levels > 0) != (self.full_shape is not None):
            raise ValueError("a reduced image must say what it was reduced from")

    @property
    def box(self) -> Box:
        """Return the whole image's edges, in the pixels of `values`.

        A wavelet level keeps every second pixel where it is: the first of a
        reduced image lies at the first of the full one, not amid the many
        that it stands for.
        """
        rows, columns = self.full_shape or self.values.shape[:2]
        step = 2**self.skipped_levels
        first = 0.5 - 0.5 / step
        return first, first, first + columns / step, first + rows / step

    @property
    def is_color(self) -> bool:
        return self.values.ndim == 3


def decode(ds: Dataset, *, skipped_levels: int = 0) -> Image:
    """Return the image of an instance.

    Several frames are refused, by whatever a preprocessing calls its unit:
    the middle frame of many is not the scan, and an encoder that reads one
    image cannot tell.

    Parameters
    ----------
    ds : with file meta information; of trusted size (`monitor.intake` sees to
        that before a scan is stored)
    skipped_levels : the finest wavelet levels that are left out, each of which
        halves the image: as many as `monitor.wavelets.levels_to_skip` says

    Raises
    ------
    UnreadableScanError
        If there are several frames, or the pixels cannot be decoded.
    """
    if int(ds.get("NumberOfFrames") or 1) > 1:
        raise unreadable(
            Reason.MULTI_FRAME,
            f"the image has {ds.NumberOfFrames} frames: this version reads images of one",
        )
    try:
        samples = stored_samples(ds, skipped_levels=skipped_levels)
        image = _color(samples, ds) if samples.ndim == 3 else _gray(samples, ds)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged data
        # Their messages quote the data set, so only their type is passed on.
        raise unreadable(
            Reason.UNDECODABLE, f"the pixels cannot be decoded ({type(error).__name__})"
        ) from None
    full = (int(ds.Rows), int(ds.Columns))
    if image.values.shape[:2] == full:
        return image
    return replace(image, skipped_levels=skipped_levels, full_shape=full)


def prepare(image: Image, preprocessing: Preprocessing) -> Floats:
    """Return an image as an encoder reads it, float32 [3, h, w]: `rendered`, and normalised.

    Raises
    ------
    BundleError
        If the unit is not an instance.
    """
    planes = rendered(image, preprocessing)
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    normalised: Floats = (planes - mean) / std
    return normalised


def rendered(image: Image, preprocessing: Preprocessing) -> Floats:
    """Return an image as a preprocessing shows it, 0 black and 1 white, float32 [3, h, w].

    In the order that the declaration gives: window to [0, 1], MONOCHROME1
    inverted, padding black, resize with an antialiasing filter, clip, three
    channels. Color takes no VOI; a percentile window stretches its three
    channels alike.

    Raises
    ------
    BundleError
        If the unit is not an instance.
    """
    preprocessing.require_supported_unit()
    match preprocessing.window:
        case DicomWindow():
            windowed = _shown(image)
        case PercentileWindow(low=low, high=high):
            lowest, highest = np.percentile(_seen(image), (low, high))
            windowed = _finish(image, ramp(image.values, float(lowest), float(highest)))
    return np.broadcast_to(_resize(windowed, image.box, preprocessing), preprocessing.shape)


def thumbnail_png(image: Image, side: int = 128) -> bytes:
    """Return a PNG without metadata whose longer side has `side` pixels.

    It shows what a viewer would: the image's own window, else its full range.
    """
    if not 1 <= side <= _LARGEST_THUMBNAIL:
        raise ValueError(f"side must lie in 1..{_LARGEST_THUMBNAIL}, got {side}")
    shown = _shown(image)
    size = _fitted(image.box, (side, side))
    scaled = _scale(shown, image.box, size, Resample.BICUBIC)
    pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels.squeeze()).save(stream, format="PNG")
    return stream.getvalue()


def _color(samples: npt.NDArray[Any], ds: Dataset) -> Image:
    white = np.float32(2**ds.BitsStored - 1)
    return Image(values=np.minimum(samples.astype(np.float32) / white, np.float32(1)))


def _gray(samples: npt.NDArray[Any], ds: Dataset) -> Image:
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        looked_up = apply_color_lut(samples, ds)
        white = np.float32(np.iinfo(looked_up.dtype).max)
        return Image(values=looked_up.astype(np.float32) / white)
    values = _modality_values(samples, ds)
    if not np.isfinite(values).all():
        raise ValueError("the modality LUT gives values that are not finite")
    return Image(
        values=values,
        inverted=ds.PhotometricInterpretation == "MONOCHROME1",
        voi=_voi(ds),
        padding=_padding(samples, ds),
    )


def _modality_values(samples: npt.NDArray[Any], ds: Dataset) -> Floats:
    """Apply the modality LUT or the rescale (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        return _table(ds.ModalityLUTSequence[0]).look_up(samples.astype(np.float32))
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ValueError("the rescale slope or intercept is none")
    if (slope, intercept) == (1, 0):
        return samples.astype(np.float32)
    rescaled: Floats = (samples.astype(np.float64) * slope + intercept).astype(np.float32)
    return rescaled


def _voi(ds: Dataset) -> Voi | None:
    """Return the first VOI LUT or window; a table, more specific, goes before a window."""
    if ds.get("VOILUTSequence"):
        return _table(ds.VOILUTSequence[0])
    center, width = _first(ds.get("WindowCenter")), _first(ds.get("WindowWidth"))
    if center is None or width is None:
        return None
    function = VoiFunction(ds.get("VOILUTFunction") or VoiFunction.LINEAR.value)
    try:
        return VoiWindow(center=center, width=width, function=function)
    except ValueError:
        return None  # scanners write a width of 0 where there is no window


def _table(item: Dataset) -> VoiTable:
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = np.frombuffer(item.LUTData, dtype="<u2")[: count or 2**16]
    return VoiTable(first=first, bits=bits, entries=entries)


def _padding(samples: npt.NDArray[Any], ds: Dataset) -> Mask | None:
    """Mark samples that fill up a rectangle around the image (PS3.3 C.7.5.1.1.2)."""
    value = ds.get("PixelPaddingValue")
    if value is None:
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    mask: Mask = (samples >= low) & (samples <= high)
    # An image of nothing but padding is an image: its value then means itself.
    return mask if mask.any() and not mask.all() else None


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float) else value[0])


def _seen(image: Image) -> Floats:
    """Return the values that are image, as one row or as many as there are channels."""
    return image.values if image.padding is None else image.values[~image.padding]


def _shown(image: Image) -> Floats:
    """Return the image by its own window, in [0, 1]; without one, from lowest to highest value."""
    if image.is_color:
        return image.values
    if image.voi is not None:
        return _finish(image, image.voi.apply(image.values))
    seen = _seen(image)
    return _finish(image, ramp(image.values, float(seen.min()), float(seen.max())))


def _finish(image: Image, windowed: Floats) -> Floats:
    shown = 1 - windowed if image.inverted else windowed
    if image.padding is not None:
        shown[image.padding] = 0
    return shown


def _resize(shown: Floats, box: Box, preprocessing: Preprocessing) -> Floats:
    """Return [h, w] or [3, h, w] in [0, 1] of the declared size."""
    size = preprocessing.size
    match preprocessing.fit:
        case Fit.STRETCH:
            resized = _scale(shown, box, size, preprocessing.resample)
        case Fit.PAD:
            height, width = _fitted(box, size)
            resized = np.zeros((*size, *shown.shape[2:]), dtype=np.float32)
            top, left = (size[0] - height) // 2, (size[1] - width) // 2
            resized[top : top + height, left : left + width] = _scale(
                shown, box, (height, width), preprocessing.resample
            )
    clipped: Floats = np.clip(resized, 0, 1)
    return clipped.transpose(2, 0, 1) if clipped.ndim == 3 else clipped


def _fitted(box: Box, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the largest image of this shape that the size holds."""
    sides = box[3] - box[1], box[2] - box[0]
    factor = min(size[0] / sides[0], size[1] / sides[1])
    height, width = (
        min(max(round(side * factor), 1), most) for side, most in zip(sides, size, strict=True)
    )
    return height, width


def _scale(shown: Floats, box: Box, size: tuple[int, int], resample: Resample) -> Floats:
    if box == (0.0, 0.0, float(size[1]), float(size[0])):
        return shown
    if shown.ndim == 3:
        planes = [_scale(shown[:, :, channel], box, size, resample) for channel in range(3)]
        return np.stack(planes, axis=2)
    if box[0] > 0:
        # The last pixels of a reduced image stand for those behind them, too.
        shown = np.pad(shown, ((0, 1), (0, 1)), mode="edge")
    # Pillow's filters widen with the reduction, so that nothing aliases; on
    # float32 ("F") nothing is rounded between the two passes.
    plane = PillowImage.fromarray(np.ascontiguousarray(shown))
    scaled = plane.resize((size[1], size[0]), resample=_FILTERS[resample], box=box)
    return np.asarray(scaled, dtype=np.float32)
