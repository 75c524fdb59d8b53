"""Stored samples out of an instance's pixel data, by the fastest exact decoder of each syntax."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from monitor.codestreams import CodestreamError, read_wavelet_header
from monitor.wavelets import agrees, decode_without, wavelet_frame

#: [h, w], or RGB [h, w, 3]
Samples: TypeAlias = npt.NDArray[Any]

# The fastest exact decoder of each compressed transfer syntax. A 2048 x 2048
# image of 16 bits takes one core: RLE 24 ms (pydicom's own decoder 192),
# JPEG-LS 106 (pylibjpeg 1,177).
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
# High-throughput frames without loss: imagecodecs takes 22 ms where pylibjpeg
# takes 57. Of lossy ones two decoders give samples that differ by a few units.
_LOSSLESS_HIGH_THROUGHPUT = frozenset((HTJ2KLossless, HTJ2KLosslessRPCL))


def can_decode(transfer_syntax: str) -> bool:
    """Say whether what decodes a known transfer syntax is installed."""
    return transfer_syntax not in _BY_IMAGECODECS or find_spec("imagecodecs") is not None


def stored_samples(ds: Dataset, *, skipped_levels: int = 0) -> Samples:
    """Return stored samples, [h, w] or RGB [h, w, 3] (YBR converted, palettes not yet).

    Parameters
    ----------
    skipped_levels : see `monitor.wavelets.levels_to_skip`

    Raises
    ------
    Exception
        Whatever a decoder raises on damaged data.
    """
    transfer_syntax = ds.file_meta.TransferSyntaxUID
    if skipped_levels:
        try:
            return decode_without(wavelet_frame(ds), skipped_levels)
        except Exception:  # noqa: BLE001, S110 - decoders raise anything
            pass  # a tile may hold fewer levels than the main header says
    if transfer_syntax in _BY_IMAGECODECS:
        return _by_imagecodecs(ds)
    if transfer_syntax in _LOSSLESS_HIGH_THROUGHPUT and find_spec("imagecodecs"):
        samples = _lossless_high_throughput(ds)
        if samples is not None:
            return samples
    with warnings.catch_warnings():
        # pydicom warns of what it mends, once per file; what it cannot mend, it raises.
        warnings.simplefilter("ignore")
        array: Samples = pixel_array(ds, decoding_plugin=_PLUGINS.get(transfer_syntax, ""))
    return array


def _by_imagecodecs(ds: Dataset) -> Samples:
    import imagecodecs

    if ds.PhotometricInterpretation.startswith("YBR"):
        raise ValueError("the decoder does not say which color space it returns")
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    array: Samples = imagecodecs.jpeg8_decode(frame)
    if array.shape[:2] != (ds.Rows, ds.Columns):
        raise ValueError("the frame has another size than the header says")
    if ds.PixelRepresentation == 1:
        # JPEG knows no sign: the stored bits are a two's complement.
        unused = 8 * array.dtype.itemsize - ds.BitsStored
        array = (array << unused).view(f"i{array.dtype.itemsize}") >> unused
    return array


def _lossless_high_throughput(ds: Dataset) -> Samples | None:
    """Return gray samples that are what the header says; None where something must be mended."""
    import imagecodecs

    frame = wavelet_frame(ds)
    try:
        header = read_wavelet_header(frame)
    except CodestreamError:
        return None
    if header.size.samples != 1 or not (header.plain and agrees(header, ds)):
        return None
    samples: Samples = np.asarray(imagecodecs.htj2k_decode(frame))
    return samples
