"""From a stored scan to an encoder's input: the one pixel path, for training and monitoring.

`decode` carries out what belongs to the image (PS3.3 C.7.6.3 and C.11.1: the
stored samples, their color space, the modality LUT), `prepare` what a
bundle's preprocessing declares. Both are deterministic, and exact to float32.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from monitor.imaging.codestreams import CodestreamError
from monitor.imaging.frames import frame_count
from monitor.imaging.gray_levels import GrayLevels, Mask
from monitor.imaging.images import Image
from monitor.imaging.resizing import Rows, fitted, scaled_to_fit
from monitor.imaging.stored_samples import Reduced, stored_samples
from monitor.imaging.voi import (
    FARTHEST,
    Floats,
    Voi,
    VoiFunction,
    VoiTable,
    VoiWindow,
    ramp,
)
from monitor.imaging.wavelets import decode_without
from monitor.intake.reasons import Reason, unreadable
from registry.bundles.preprocessing import (
    DicomWindow,
    PercentileWindow,
    Preprocessing,
    Resample,
)

_LARGEST_THUMBNAIL = 1024
# Samples that are rescaled at a time: as doubles they stay in the core's cache.
_BLOCK = 1 << 15


def decode(
    ds: Dataset,
    *,
    frame: int | None = None,
    skipped_levels: int = 0,
    reduced: Reduced = decode_without,
) -> Image:
    """Return the image of an instance, or of one of its frames.

    Where there are several and none is asked for they are refused: one of
    many is not the scan, and an encoder that reads one image cannot tell.

    Parameters
    ----------
    ds : with file meta information; of trusted size (`monitor.intake` sees to
        that before a scan is stored)
    frame : number of the frame, from 0
    skipped_levels : the finest wavelet levels that are left out, each of which
        halves the image: as many as `monitor.imaging.wavelets.levels_to_skip` says
    reduced : decodes a frame without them

    Raises
    ------
    UnreadableScanError
        If there are several frames and none is asked for, or the pixels
        cannot be decoded.
    """
    if frame is None and frame_count(ds) > 1:
        raise unreadable(
            Reason.MULTI_FRAME,
            f"the image has {frame_count(ds)} frames, and it is not said which is read",
        )
    try:
        samples = stored_samples(
            ds, frame=frame or 0, skipped_levels=skipped_levels, reduced=reduced
        )
        # A frame that could not be reduced came in full.
        reduced_by = skipped_levels if samples.shape[:2] != (ds.Rows, ds.Columns) else 0
        if samples.ndim == 3:
            return _color(samples, ds, reduced_by)
        return _gray(samples, ds, reduced_by)
    except CodestreamError as error:  # ours, and quotes nothing
        raise unreadable(Reason.UNDECODABLE, str(error)) from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged data
        # Their messages quote the data set, so only their type is passed on.
        raise unreadable(
            Reason.UNDECODABLE, f"the pixels cannot be decoded ({type(error).__name__})"
        ) from None


def frames_of(ds: Dataset) -> Iterator[Image]:
    """Yield the image of each frame; raises as `decode`."""
    for frame in range(frame_count(ds)):
        yield decode(ds, frame=frame)


def require_decodable(ds: Dataset) -> None:
    """Decode every frame of an instance, and forget it; raises as `decode`."""
    for _ in frames_of(ds):
        pass


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
    """
    match preprocessing.window:
        case DicomWindow():
            shown = _shown(image)
        case PercentileWindow(low=low, high=high):
            shown = partial(_ramped, image, *image.percentiles(low, high))
    resized = fitted(shown, image, preprocessing)
    return np.broadcast_to(resized, preprocessing.shape)


def thumbnail_png(image: Image, side: int = 128) -> bytes:
    """Return a PNG without metadata whose longer side has `side` pixels.

    It shows what a viewer would: the image's own window, else its full range.
    """
    if not 1 <= side <= _LARGEST_THUMBNAIL:
        raise ValueError(f"side must lie in 1..{_LARGEST_THUMBNAIL}, got {side}")
    scaled = scaled_to_fit(_shown(image), image, (side, side), Resample.BICUBIC)
    pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels.squeeze()).save(stream, format="PNG")
    return stream.getvalue()


def _color(samples: npt.NDArray[Any], ds: Dataset, skipped_levels: int) -> Image:
    white = np.float32(2**ds.BitsStored - 1)
    return Image(
        values=np.minimum(samples.astype(np.float32) / white, np.float32(1)),
        **_reduction(ds, skipped_levels),
    )


def _gray(samples: npt.NDArray[Any], ds: Dataset, skipped_levels: int) -> Image:
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        looked_up = apply_color_lut(samples, ds)
        white = np.float32(np.iinfo(looked_up.dtype).max)
        return Image(values=looked_up.astype(np.float32) / white)
    levels = GrayLevels(
        samples=samples,
        values_of=_modality(ds),
        monotone=not ds.get("ModalityLUTSequence"),
    )
    if not max(map(abs, levels.extremes())) <= FARTHEST:  # nor if one is no number
        raise ValueError("the modality LUT gives values beyond single precision")
    return Image(
        values=levels,
        inverted=ds.PhotometricInterpretation == "MONOCHROME1",
        voi=_voi(ds),
        padding=_padding(samples, ds),
        **_reduction(ds, skipped_levels),
    )


def _reduction(ds: Dataset, skipped_levels: int) -> dict[str, Any]:
    if skipped_levels == 0:
        return {}
    return {
        "skipped_levels": skipped_levels,
        "full_shape": (int(ds.Rows), int(ds.Columns)),
    }


def _modality(ds: Dataset) -> Callable[[npt.NDArray[Any]], Floats]:
    """Return the modality LUT or the rescale, which turns samples into values (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        table = _table(ds.ModalityLUTSequence[0])
        return lambda samples: table.look_up(samples.astype(np.float32))
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ValueError("the rescale slope or intercept is none")
    if (slope, intercept) == (1, 0):
        return lambda samples: samples.astype(np.float32)
    return partial(_rescaled, slope=slope, intercept=intercept)


def _rescaled(samples: npt.NDArray[Any], *, slope: float, intercept: float) -> Floats:
    """Rescale in double precision, rounded once."""
    flat = np.ascontiguousarray(samples).reshape(-1)
    values = np.empty(flat.shape, dtype=np.float32)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        doubles = flat[part] * np.float64(slope)
        doubles += intercept
        with np.errstate(over="ignore"):  # values so far out are refused by whoever asks
            values[part] = doubles
    return values.reshape(samples.shape)


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
        return None  # scanners write a width of 0 or nonsense where there is no window


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


def _shown(image: Image) -> Rows:
    """Show the image by its own window, in [0, 1]; without one, from lowest to highest value."""
    if image.is_color:
        return image.rows
    voi = image.voi
    if voi is not None:
        return lambda rows: _finish(image, rows, voi.apply(image.rows(rows)))
    return partial(_ramped, image, *image.extremes())


def _ramped(image: Image, lowest: float, highest: float, rows: slice) -> Floats:
    return _finish(image, rows, ramp(image.rows(rows), lowest, highest))


def _finish(image: Image, rows: slice, windowed: Floats) -> Floats:
    shown = 1 - windowed if image.inverted else windowed
    if image.padding is not None:
        shown[image.padding[rows]] = 0
    return shown
