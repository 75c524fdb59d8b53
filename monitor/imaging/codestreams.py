"""What a compressed frame says of itself, and what it may carry besides the image.

JPEG (ITU-T T.81 annex B), JPEG-LS (T.87 annex C) and JPEG 2000 (T.800 annex A,
with its high-throughput form, T.814) begin with the size of the image, which
a decoder allocates whatever the DICOM header says; and they have room for
comments and application data, in which names have been found.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

JPEG_SYNTAXES = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1))
JPEG_LS_SYNTAXES = frozenset((JPEGLSLossless, JPEGLSNearLossless))
JPEG_2000_SYNTAXES = frozenset(
    (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
)

_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b"\xff\xd8", 0xDA, 0xD9
# In coded data 0xFF is followed by zero (T.81), by less than 0x80 (T.87) or by
# a restart marker; anything else ends the scan.
_MARKER_IN_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
# SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_COMMENT = 0xFE
_APPLICATION = range(0xE0, 0xF0)
# Application data that decoders go by: how many of their bytes are kept. The
# rest of a JFIF segment is a thumbnail.
_KEPT_APPLICATION = {(0xE0, b"JFIF\0"): 14, (0xE8, b"mrfx"): 5, (0xEE, b"Adobe"): 12}

_SIZE, _START_OF_TILE, _START_OF_DATA, _COMMENT_2000 = 0xFF51, 0xFF90, 0xFF93, 0xFF64
_CODESTREAM, _END_OF_CODESTREAM = b"\xff\x4f\xff\x51", b"\xff\xd9"
_CODING, _CODING_OF_COMPONENT = 0xFF52, 0xFF53
#: the number of segments, and where up to 15 of them begin
_RLE_HEADER = struct.Struct("<16L")
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"


#: What a frame is refused with whose own size contradicts the DICOM header.
OTHER_SIZE = "the compressed frame is of another size than the header says"


class CodestreamError(ValueError):
    """A frame is not the codestream that its transfer syntax announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSize:
    """The image as its codestream announces it."""

    rows: int
    columns: int
    samples: int
    precision: int  #: bits a sample


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveletHeader:
    """What the main header of a JPEG 2000 codestream says of image and wavelet levels."""

    size: FrameSize
    signed: bool
    levels: int  #: halvings that every component holds
    plain: bool  #: components alike, none subsampled, and the image at the grid's origin

    def shape_at(self, skipped: int) -> tuple[int, int]:
        """Return (rows, columns) where the finest `skipped` levels are left out (T.800 B.2)."""
        return -(-self.size.rows >> skipped), -(-self.size.columns >> skipped)


def bare_codestream(frame: bytes) -> bytes:
    """Return a JPEG 2000 codestream out of the JP2 file in which some writers leave it.

    PS3.5 annex A.4.4 forbids the wrapper, whose boxes can hold any text. Other
    frames are returned as they are.

    Raises
    ------
    CodestreamError
        If the file holds no codestream.
    """
    if not frame.startswith(_JP2_SIGNATURE):
        return frame
    position = 0
    while len(frame) - position >= 8:
        length, kind = struct.unpack_from(">L4s", frame, position)
        if kind == b"jp2c":
            return frame[position + 8 : position + length if length else len(frame)]
        if length < 8:  # 0 is the last box, 1 announces a length that no header box has
            break
        position += length
    raise CodestreamError("the JP2 file in the frame holds no codestream")


def read_frame_size(frame: bytes, transfer_syntax: str) -> FrameSize | None:
    """Return what a frame announces; None for a syntax whose frames have no header of it.

    Raises
    ------
    CodestreamError
        If the frame is no such codestream.
    """
    try:
        if transfer_syntax in JPEG_SYNTAXES | JPEG_LS_SYNTAXES:
            return _jpeg_size(frame)
        if transfer_syntax in JPEG_2000_SYNTAXES:
            return _jpeg_2000_size(frame)
    except (struct.error, IndexError):
        raise CodestreamError("the frame ends within its header") from None
    return None


def read_wavelet_header(frame: bytes) -> WaveletHeader:
    """Return what a JPEG 2000 codestream announces.

    Raises
    ------
    CodestreamError
        If the frame is no such codestream.
    """
    try:
        size = _jpeg_2000_size(frame)
        origin = struct.unpack_from(">2L", frame, 16)
        components = [
            struct.unpack_from(">3B", frame, 42 + 3 * index) for index in range(size.samples)
        ]
        # A component's own coding style begins with its number, of one byte or two (A.6.2).
        places = {_CODING: 5, _CODING_OF_COMPONENT: 2 if size.samples < 257 else 3}
        levels = [
            frame[start + places[marker]]
            for marker, start in _main_header_2000(frame)
            if marker in places
        ]
    except (struct.error, IndexError):
        raise CodestreamError("the frame ends within its header") from None
    if not components or not levels:
        raise CodestreamError("the JPEG 2000 header does not say how the image is coded")
    return WaveletHeader(
        size=size,
        signed=bool(components[0][0] & 0x80),
        levels=min(levels),
        plain=origin == (0, 0) and len(set(components)) == 1 and components[0][1:] == (1, 1),
    )


def rle_lengths(frame: bytes) -> list[int]:
    """Return how many bytes each segment of an RLE frame unpacks to (PS3.5 annex G).

    It steps from run to run, and unpacks nothing; a decoder is many times faster.

    Raises
    ------
    CodestreamError
        If the frame's header says of no segments, or of such as lie beyond its end.
    """
    if len(frame) < _RLE_HEADER.size:
        raise CodestreamError("the frame ends within its header")
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    if not 1 <= count <= len(offsets):
        raise CodestreamError(f"an RLE frame of {count} segments is none")
    ends = [*offsets[1:count], len(frame)]
    return [
        _rle_length(frame, start, end) for start, end in zip(offsets[:count], ends, strict=True)
    ]


def _rle_length(frame: bytes, start: int, end: int) -> int:
    if not _RLE_HEADER.size <= start <= end <= len(frame):
        raise CodestreamError("a segment of the RLE frame lies beyond its end")
    length, position = 0, start
    while position < end - 1:  # a single byte at the end makes the length even
        run = frame[position]
        if run < 128:  # as many bytes as they are, and one more
            length += min(run + 1, end - 1 - position)
            position += run + 2
        else:  # one byte, again and again; 128 is nothing at all
            length += 257 - run if run > 128 else 0
            position += 2 if run > 128 else 1
    return length


def blank_comments(frame: bytes, transfer_syntax: str) -> bytes:
    """Return the frame with zeros for comments, application data and what follows its end.

    Not one byte moves, so offsets and lengths inside it stay right, and what
    the frame decodes to stays the same.

    Raises
    ------
    CodestreamError
        If the frame is no such codestream.
    """
    blanked = bytearray(frame)
    try:
        if transfer_syntax in JPEG_SYNTAXES | JPEG_LS_SYNTAXES:
            _blank_jpeg(blanked)
        elif transfer_syntax in JPEG_2000_SYNTAXES:
            _blank_jpeg_2000(blanked)
    except (struct.error, IndexError):
        raise CodestreamError("the frame ends within its header") from None
    return bytes(blanked)


def _jpeg_segments(frame: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment's content; the last is what follows the end."""
    if frame[:2] != _START_OF_IMAGE:
        raise CodestreamError("the frame does not start as a JPEG image")
    position = 2
    while True:
        if frame[position] != 0xFF:
            raise CodestreamError(f"no JPEG marker at byte {position} of the frame")
        marker = frame[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == _END_OF_IMAGE:
            yield marker, position + 2, len(frame)
            return
        (length,) = struct.unpack_from(">H", frame, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(frame):
            raise CodestreamError("a JPEG segment ends after the frame")
        yield marker, position + 4, end
        position = end
        if marker == _START_OF_SCAN:
            following = _MARKER_IN_SCAN.search(frame, end)
            if following is None:  # no end of image: the decoder says whether it minds
                return
            position = following.start()


def _jpeg_size(frame: bytes) -> FrameSize:
    for marker, start, _ in _jpeg_segments(frame):
        if marker in _FRAME_HEADERS:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, start)
            return FrameSize(rows=rows, columns=columns, samples=samples, precision=precision)
    raise CodestreamError("the JPEG image has no frame header")


def _blank_jpeg(frame: bytearray) -> None:
    for marker, start, end in _jpeg_segments(frame):
        if marker == _END_OF_IMAGE:
            _blank(frame, start, end)
        elif marker == _COMMENT or marker in _APPLICATION:
            kept = next(
                (
                    length
                    for (kept_marker, name), length in _KEPT_APPLICATION.items()
                    if kept_marker == marker and frame[start:end].startswith(name)
                ),
                0,
            )
            _blank(frame, min(start + kept, end), end)


def _jpeg_2000_size(frame: bytes) -> FrameSize:
    if frame[:4] != _CODESTREAM:
        raise CodestreamError("the frame does not start as a JPEG 2000 codestream")
    # Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, XTsiz, YTsiz, XTOsiz, YTOsiz, Csiz, Ssiz
    values = struct.unpack_from(">HH8LHB", frame, 4)
    columns, rows = values[2] - values[4], values[3] - values[5]
    if values[6] == 0 or values[7] == 0:
        raise CodestreamError("the JPEG 2000 image has tiles without a size")
    return FrameSize(
        rows=rows, columns=columns, samples=values[10], precision=(values[11] & 0x7F) + 1
    )


def _main_header_2000(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, start of its content) of the main header's segments after the size."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, position)
        if marker in {_START_OF_TILE, _START_OF_DATA}:
            return
        if marker < 0xFF00 or length < 2:
            raise CodestreamError(f"no JPEG 2000 marker at byte {position} of the frame")
        yield marker, position + 4
        position += 2 + length


def _blank_jpeg_2000(frame: bytearray) -> None:
    if frame[:4] != _CODESTREAM:
        raise CodestreamError("the frame does not start as a JPEG 2000 codestream")
    position = _blank_header_2000(frame, 2, _START_OF_TILE)
    while frame[position : position + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">L", frame, position + 6)
        if length == 0:  # the last tile-part, up to the end of the codestream
            _blank_header_2000(frame, position, _START_OF_DATA)
            return
        if length < 14 or position + length > len(frame):
            raise CodestreamError("a tile-part ends after the frame")
        _blank_header_2000(frame, position, _START_OF_DATA)
        position += length
    if frame[position : position + 2] == _END_OF_CODESTREAM:
        position += 2
    _blank(frame, position, len(frame))


def _blank_header_2000(frame: bytearray, position: int, until: int) -> int:
    """Blank the comments of a main or tile-part header; return where `until` stands."""
    while True:
        marker, length = struct.unpack_from(">HH", frame, position)
        if marker == until:
            return position
        if marker < 0xFF00 or length < 2:
            raise CodestreamError(f"no JPEG 2000 marker at byte {position} of the frame")
        end = position + 2 + length
        if marker == _COMMENT_2000:
            _blank(frame, position + 6, min(end, len(frame)))
        position = end


def _blank(frame: bytearray, start: int, end: int) -> None:
    frame[start:end] = bytes(max(end - start, 0))
