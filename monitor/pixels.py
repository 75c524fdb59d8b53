"""From a stored scan to an encoder's input: the one pixel path, for training and monitoring.

`decode` carries out what belongs to the image (PS3.3 C.7.6.3 and C.11.1: the
stored samples, their color space, the modality LUT), `prepare` what a
bundle's preprocessing declares. Both are deterministic, and exact to float32.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from monitor.intake.reasons import Reason, unreadable
from monitor.voi import Floats, Voi, VoiFunction, VoiTable, VoiWindow, ramp
from registry.bundles.preprocessing import (
    DicomWindow,
    Fit,
    PercentileWindow,
    Preprocessing,
    Resample,
)

Mask: TypeAlias = npt.NDArray[np.bool_]

# The fastest exact decoder of each compressed transfer syntax. A 2048 x 2048
# image of 16 bits takes one core: RLE 24 ms (pydicom's own decoder 192),
# JPEG-LS 106 (pylibjpeg 1,177), JPEG 2000 1,670, HTJ2K less.
_PLUGINS: dict[str, str] = {
    RLELossless: "pylibjpeg",
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
}
# JPEG with 12 bits or without loss: 104 ms in imagecodecs, and no other
# decoder under a free enough licence.
_BY_IMAGECODECS = frozenset((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1))

#: Transfer syntaxes of compressed pixels that `decode` knows.
DECODED_SYNTAXES = frozenset(_PLUGINS) | _BY_IMAGECODECS

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

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.dtype != np.float32 or not (
            self.values.ndim == 2 or (self.values.ndim == 3 and shape[2] == 3)
        ):
            raise ValueError(f"an image is float32 [h, w] or [h, w, 3], not {list(shape)}")
        if self.padding is not None and self.padding.shape != shape[:2]:
            raise ValueError("padding must have the image's height and width")

    @property
    def is_color(self) -> bool:
        return self.values.ndim == 3


def can_decode(transfer_syntax: str) -> bool:
    """Say whether what decodes a known transfer syntax is installed."""
    return transfer_syntax not in _BY_IMAGECODECS or find_spec("imagecodecs") is not None


def decode(ds: Dataset) -> Image:
    """Return the image of an instance.

    Several frames are refused, by whatever a preprocessing calls its unit:
    the middle frame of many is not the scan, and an encoder that reads one
    image cannot tell.

    Parameters
    ----------
    ds : with file meta information; of trusted size (`monitor.intake` sees to
        that before a scan is stored)

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
        samples = _samples(ds)
        return _color(samples, ds) if samples.ndim == 3 else _gray(samples, ds)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged data
        # Their messages quote the data set, so only their type is passed on.
        raise unreadable(
            Reason.UNDECODABLE, f"the pixels cannot be decoded ({type(error).__name__})"
        ) from None


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
    return np.broadcast_to(_resize(windowed, preprocessing), preprocessing.shape)


def thumbnail_png(image: Image, side: int = 128) -> bytes:
    """Return a PNG without metadata whose longer side has `side` pixels.

    It shows what a viewer would: the image's own window, else its full range.
    """
    if not 1 <= side <= _LARGEST_THUMBNAIL:
        raise ValueError(f"side must lie in 1..{_LARGEST_THUMBNAIL}, got {side}")
    shown = _shown(image)
    scaled = _scale(shown, _fitted(shown.shape[:2], (side, side)), Resample.BICUBIC)
    pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels.squeeze()).save(stream, format="PNG")
    return stream.getvalue()


def _samples(ds: Dataset) -> npt.NDArray[Any]:
    """Return stored samples, [h, w] or RGB [h, w, 3] (YBR converted, palettes not yet)."""
    transfer_syntax = ds.file_meta.TransferSyntaxUID
    if transfer_syntax in _BY_IMAGECODECS:
        return _by_imagecodecs(ds)
    with warnings.catch_warnings():
        # pydicom warns of what it mends, once per file; what it cannot mend, it raises.
        warnings.simplefilter("ignore")
        array: npt.NDArray[Any] = pixel_array(
            ds, decoding_plugin=_PLUGINS.get(transfer_syntax, "")
        )
    return array


def _by_imagecodecs(ds: Dataset) -> npt.NDArray[Any]:
    import imagecodecs

    if ds.PhotometricInterpretation.startswith("YBR"):
        raise ValueError("the decoder does not say which color space it returns")
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    array: npt.NDArray[Any] = imagecodecs.jpeg8_decode(frame)
    if array.shape[:2] != (ds.Rows, ds.Columns):
        raise ValueError("the frame has another size than the header says")
    if ds.PixelRepresentation == 1:
        # JPEG knows no sign: the stored bits are a two's complement.
        unused = 8 * array.dtype.itemsize - ds.BitsStored
        array = (array << unused).view(f"i{array.dtype.itemsize}") >> unused
    return array


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


def _resize(shown: Floats, preprocessing: Preprocessing) -> Floats:
    """Return [h, w] or [3, h, w] in [0, 1] of the declared size."""
    size = preprocessing.size
    match preprocessing.fit:
        case Fit.STRETCH:
            resized = _scale(shown, size, preprocessing.resample)
        case Fit.PAD:
            height, width = _fitted(shown.shape[:2], size)
            resized = np.zeros((*size, *shown.shape[2:]), dtype=np.float32)
            top, left = (size[0] - height) // 2, (size[1] - width) // 2
            resized[top : top + height, left : left + width] = _scale(
                shown, (height, width), preprocessing.resample
            )
    clipped: Floats = np.clip(resized, 0, 1)
    return clipped.transpose(2, 0, 1) if clipped.ndim == 3 else clipped


def _fitted(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the largest image of this shape that the size holds."""
    factor = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (
        min(max(round(side * factor), 1), most)
        for side, most in zip(shape[:2], size, strict=True)
    )
    return height, width


def _scale(shown: Floats, size: tuple[int, int], resample: Resample) -> Floats:
    if shown.shape[:2] == size:
        return shown
    if shown.ndim == 3:
        planes = [_scale(shown[:, :, channel], size, resample) for channel in range(3)]
        return np.stack(planes, axis=2)
    # Pillow's filters widen with the reduction, so that nothing aliases; on
    # float32 ("F") nothing is rounded between the two passes.
    plane = PillowImage.fromarray(np.ascontiguousarray(shown))
    scaled = plane.resize((size[1], size[0]), resample=_FILTERS[resample])
    return np.asarray(scaled, dtype=np.float32)
