"""Stored samples out of an instance's pixel data, by the fastest exact decoder of each syntax."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from monitor.imaging.codestreams import (
    JPEG_LS_SYNTAXES,
    OTHER_SIZE,
    CodestreamError,
    FrameSize,
    read_frame_size,
    read_wavelet_header,
    rle_lengths,
)
from monitor.imaging.frames import frame_count
from monitor.imaging.wavelets import agrees, decode_without, wavelet_frame

#: [h, w], or RGB [h, w, 3]
Samples: TypeAlias = npt.NDArray[Any]
#: a bare codestream, and how many of its finest levels are left out -> samples
Reduced: TypeAlias = Callable[[bytes, int], Samples]

# The fastest exact decoder of each compressed transfer syntax among pydicom's.
# A 2048 x 2048 image of 16 bits takes one core: RLE 24 ms (pydicom's own
# decoder 192), JPEG-LS 106 (pylibjpeg 1,177).
_PLUGINS: dict[str, str] = {
    RLELossless: "pylibjpeg",
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
}
# JPEG with 12 bits or without loss: 104 ms in imagecodecs, and no other
# decoder under a free enough licence.
_BY_IMAGECODECS = frozenset((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1))
# imagecodecs lets other threads run while it decodes, where pydicom's decoders
# keep them waiting; and a high-throughput frame takes it 22 ms, and pylibjpeg
# 57. Lossy high-throughput frames are left out: it wraps what overshoots.
_LOSSLESS_HIGH_THROUGHPUT = frozenset((HTJ2KLossless, HTJ2KLosslessRPCL))
_WAVELETS = frozenset((JPEG2000, JPEG2000Lossless)) | _LOSSLESS_HIGH_THROUGHPUT
_GRAY = frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"))

#: Transfer syntaxes of compressed pixels that `decode` knows.
DECODED_SYNTAXES = frozenset(_PLUGINS) | _BY_IMAGECODECS


def can_decode(transfer_syntax: str) -> bool:
    """Say whether what decodes a known transfer syntax is installed."""
    return transfer_syntax not in _BY_IMAGECODECS or find_spec("imagecodecs") is not None


def stored_samples(
    ds: Dataset,
    *,
    frame: int = 0,
    skipped_levels: int = 0,
    reduced: Reduced = decode_without,
) -> Samples:
    """Return stored samples, [h, w] or RGB [h, w, 3] (YBR converted, palettes not yet).

    Parameters
    ----------
    frame : number of the frame, from 0
    skipped_levels : see `monitor.imaging.wavelets.levels_to_skip`
    reduced : decodes a frame without its finest levels

    Raises
    ------
    Exception
        Whatever a decoder raises on damaged data.
    """
    transfer_syntax = ds.file_meta.TransferSyntaxUID
    if transfer_syntax == ExplicitVRLittleEndian and ds.SamplesPerPixel == 1:
        return _native(ds, frame)
    if skipped_levels:
        try:
            return reduced(wavelet_frame(ds, frame), skipped_levels)
        except Exception:  # noqa: BLE001, S110 - decoders raise anything
            pass  # a tile may hold fewer levels than the main header says
    if transfer_syntax in _BY_IMAGECODECS:
        return _by_imagecodecs(ds, frame)
    if transfer_syntax == RLELossless:
        return _by_rle(ds, frame)
    samples = _without_mending(ds, frame)
    if samples is not None:
        return samples
    return _by_pydicom(ds, frame)


def _by_pydicom(ds: Dataset, frame: int) -> Samples:
    with warnings.catch_warnings():
        # pydicom warns of what it mends, once per file; what it cannot mend, it raises.
        warnings.simplefilter("ignore")
        array: Samples = pixel_array(
            ds,
            index=frame,
            decoding_plugin=_PLUGINS.get(ds.file_meta.TransferSyntaxUID, ""),
        )
    return array


def _by_rle(ds: Dataset, number: int) -> Samples:
    """Decode run lengths, which say nothing of the image's size until they have been counted."""
    try:
        return _by_pydicom(ds, number)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - it panics over some, which is no Exception
        frame = get_frame(ds.PixelData, number, number_of_frames=frame_count(ds))
        needed = [ds.Rows * ds.Columns] * (ds.SamplesPerPixel * ds.BitsAllocated // 8)
        if rle_lengths(frame) != needed:
            raise CodestreamError(OTHER_SIZE) from None
        raise CodestreamError(f"the RLE frame is damaged ({type(error).__name__})") from None


def _native(ds: Dataset, frame: int) -> Samples:
    """Return samples where they lie (PS3.5 section 8.1), read-only."""
    kind = "i" if ds.PixelRepresentation == 1 else "u"
    dtype = np.dtype(f"<{kind}{ds.BitsAllocated // 8}")
    count = ds.Rows * ds.Columns
    start = frame * count * dtype.itemsize
    samples = np.frombuffer(ds.PixelData, dtype=dtype, count=count, offset=start)
    return samples.reshape(ds.Rows, ds.Columns)


def _by_imagecodecs(ds: Dataset, frame: int) -> Samples:
    import imagecodecs

    if ds.PhotometricInterpretation.startswith("YBR"):
        raise ValueError("the decoder does not say which color space it returns")
    compressed = get_frame(ds.PixelData, frame, number_of_frames=frame_count(ds))
    array: Samples = imagecodecs.jpeg8_decode(compressed)
    if array.shape[:2] != (ds.Rows, ds.Columns):
        raise ValueError("the frame has another size than the header says")
    return _signed(array, ds) if ds.PixelRepresentation == 1 else array


def _without_mending(ds: Dataset, frame: int) -> Samples | None:
    """Return samples of a frame that is what the header says; None where pydicom must mend it."""
    syntax = ds.file_meta.TransferSyntaxUID
    try:
        if syntax in JPEG_LS_SYNTAXES and _is_plain(ds, {"RGB"}):
            return _by_jpeg_ls(ds, frame)
        if syntax in _WAVELETS and _is_plain(ds, {"RGB", "YBR_ICT", "YBR_RCT"}):
            return _by_wavelets(ds, frame)
    except (ImportError, CodestreamError):
        pass
    return None


def _by_jpeg_ls(ds: Dataset, number: int) -> Samples | None:
    import imagecodecs

    frame = get_frame(ds.PixelData, number, number_of_frames=frame_count(ds))
    described = FrameSize(
        rows=ds.Rows,
        columns=ds.Columns,
        samples=ds.SamplesPerPixel,
        precision=ds.BitsStored,
    )
    if read_frame_size(frame, ds.file_meta.TransferSyntaxUID) != described:
        return None
    array: Samples = imagecodecs.jpegls_decode(frame)
    return _signed(array, ds) if ds.PixelRepresentation == 1 else array


def _by_wavelets(ds: Dataset, number: int) -> Samples | None:
    import imagecodecs

    frame = wavelet_frame(ds, number)
    header = read_wavelet_header(frame)
    if not (header.plain and agrees(header, ds)):
        return None
    if ds.file_meta.TransferSyntaxUID in _LOSSLESS_HIGH_THROUGHPUT:
        return np.asarray(imagecodecs.htj2k_decode(frame))
    return np.asarray(imagecodecs.jpeg2k_decode(frame, numthreads=1))


def _is_plain(ds: Dataset, colors: Collection[str]) -> bool:
    """Say whether an image is gray, or decodes to red, green and blue of 8 bits."""
    return ds.PhotometricInterpretation in _GRAY or (
        ds.PhotometricInterpretation in colors
        and (ds.SamplesPerPixel, ds.BitsStored, ds.PixelRepresentation) == (3, 8, 0)
    )


def _signed(array: Samples, ds: Dataset) -> Samples:
    """Read stored bits as a two's complement: JPEG and JPEG-LS know no sign."""
    unused = 8 * array.dtype.itemsize - ds.BitsStored
    signed: Samples = (array << unused).view(f"i{array.dtype.itemsize}") >> unused
    return signed
