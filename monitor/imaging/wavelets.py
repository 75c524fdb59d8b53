"""Decoding a JPEG 2000 frame at one of the smaller sizes that it holds itself (T.800 annex B).

An encoder reads a few hundred pixels a side of an image of some thousands.
The levels of the wavelet transform that it would never see are most of the
work, and are left out here where a preprocessing says so.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageFile
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from monitor.imaging.codestreams import (
    JPEG_2000_SYNTAXES,
    CodestreamError,
    FrameSize,
    WaveletHeader,
    bare_codestream,
    read_wavelet_header,
)
from monitor.imaging.frames import frame_count
from registry.bundles.preprocessing import Fit, Preprocessing

# Main headers have some hundred bytes.
_HEADER_BYTES = 1 << 13
_GRAY = frozenset(("MONOCHROME1", "MONOCHROME2"))
# Their color transform belongs to the codestream, and is undone with it.
_COLOR = frozenset(("RGB", "YBR_ICT", "YBR_RCT"))


def levels_to_skip(ds: Dataset, preprocessing: Preprocessing, frame: int = 0) -> int:
    """Return how many of the finest wavelet levels a preprocessing leaves out of a frame.

    None where it does not declare it, where the image is compressed in another
    way, and where skipping would give another image: entries of a palette or
    of a modality LUT have no mean, and padding would run into the image.
    """
    if preprocessing.wavelet_oversampling is None or not _may_be_reduced(ds):
        return 0
    try:
        header = _header(ds, frame)
    except CodestreamError:
        return 0  # decoding in full says what is wrong
    if not (header.plain and agrees(header, ds)):
        return 0
    skipped = 0
    while skipped < header.levels and _is_enough(header.shape_at(skipped + 1), preprocessing):
        skipped += 1
    return skipped


def _header(ds: Dataset, frame: int) -> WaveletHeader:
    """Read a frame's main header, without a copy of the frame where it begins at once."""
    if frame_count(ds) == 1:
        try:
            return read_wavelet_header(_first_bytes(ds.PixelData))
        except (CodestreamError, struct.error):
            pass  # it is longer, in a JP2 file, or in more than one fragment
    return read_wavelet_header(wavelet_frame(ds, frame))


def _first_bytes(encapsulated: bytes) -> bytes:
    """Return the first bytes of the first fragment, behind the offset table (PS3.5 annex A.4)."""
    (table,) = struct.unpack_from("<4xL", encapsulated)
    (length,) = struct.unpack_from("<4xL", encapsulated, 8 + table)
    start = 16 + table
    return encapsulated[start : start + min(length, _HEADER_BYTES)]


def wavelet_frame(ds: Dataset, frame: int = 0) -> bytes:
    """Return the codestream of a frame."""
    return bare_codestream(get_frame(ds.PixelData, frame, number_of_frames=frame_count(ds)))


def agrees(header: WaveletHeader, ds: Dataset) -> bool:
    """Say whether the codestream holds the samples that the data set describes."""
    size = header.size
    return (size.rows, size.columns, size.samples, size.precision, header.signed) == (
        ds.Rows,
        ds.Columns,
        ds.SamplesPerPixel,
        ds.BitsStored,
        ds.PixelRepresentation == 1,
    )


def decode_without(frame: bytes, skipped: int) -> npt.NDArray[Any]:
    """Return stored samples without the finest `skipped` levels, [h, w] or RGB [h, w, 3].

    The coarser image is the finer one low-pass filtered and halved, with the
    same mean; values are clipped to the range of the stored bits.

    Parameters
    ----------
    frame : a bare codestream that is plain; gray of at most 16 bits, or RGB of 8

    Raises
    ------
    Exception
        Whatever the decoder raises on a damaged frame.
    """
    header = read_wavelet_header(frame)
    with _ReducedJpeg2000(frame, header, skipped) as picture:
        samples = np.asarray(picture)
    if samples.ndim == 3:
        return samples
    # Pillow moves the highest bit to that of its own sample, and signed
    # values up until none is negative.
    samples = samples >> (8 * samples.dtype.itemsize - header.size.precision)
    if header.signed:
        samples = samples.astype(np.int32) - (1 << (header.size.precision - 1))
        return samples.astype(np.int16)
    return samples


class _ReducedJpeg2000(ImageFile.ImageFile):
    """Pillow's decoder with the size that the standard gives a reduced image.

    Its own reader rounds the halves of an odd size where they are rounded up,
    and then fails on them.
    """

    format = "JPEG2000"

    def __init__(self, frame: bytes, header: WaveletHeader, skipped: int) -> None:
        self._header, self._skipped, self._length = header, skipped, len(frame)
        super().__init__(io.BytesIO(frame))

    def _open(self) -> None:
        rows, columns = self._header.shape_at(self._skipped)
        self._size = (columns, rows)
        self._mode = _mode(self._header.size)
        arguments = ("j2k", self._skipped, 0, -1, self._length)
        self.tile = [ImageFile._Tile("jpeg2k", (0, 0, columns, rows), 0, arguments)]


def _mode(size: FrameSize) -> str:
    if size.samples == 3:
        return "RGB"
    return "L" if size.precision <= 8 else "I;16"


def _may_be_reduced(ds: Dataset) -> bool:
    if ds.file_meta.TransferSyntaxUID not in JPEG_2000_SYNTAXES:
        return False
    if ds.PhotometricInterpretation in _COLOR:
        return bool(ds.SamplesPerPixel == 3 and ds.BitsStored == 8)
    return (
        ds.PhotometricInterpretation in _GRAY
        and ds.BitsStored <= 16
        and ds.get("PixelPaddingValue") is None
        and not ds.get("ModalityLUTSequence")
    )


def _is_enough(shape: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Say whether a reduced image is still as many times larger as is declared."""
    times = preprocessing.wavelet_oversampling or 1
    height, width = preprocessing.size
    match preprocessing.fit:
        case Fit.STRETCH:
            return shape[0] >= times * height and shape[1] >= times * width
        case Fit.PAD:
            # The side that fits decides; the other keeps its proportion to it.
            return shape[0] >= times * height or shape[1] >= times * width
