"""An instance's image as its header describes it, checked, and its pixel data made plain.

PS3.3 C.7.6.3 (image pixel module), PS3.5 section 8 and annex A.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monitor.imaging.codestreams import (
    OTHER_SIZE,
    CodestreamError,
    bare_codestream,
    blank_comments,
    read_frame_size,
)
from monitor.imaging.stored_samples import DECODED_SYNTAXES, can_decode
from monitor.intake.elements import Element, fragments
from monitor.intake.limits import Limits
from monitor.intake.reading import Instance
from monitor.intake.reasons import Reason, unreadable

NATIVE_SYNTAXES = frozenset(
    (
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    )
)

_GRAY = frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"))
_COLOR = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"))
_BITS_ALLOCATED = (1, 8, 16, 32)
_LONGEST_SIDE = 2**16 - 1  # Rows and Columns have 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePixels:
    """What the header says of the pixels; each value is possible, and so is their product.

    The bits are those that are stored: samples of one bit are given a byte
    each, and samples that lie higher are moved down to the lowest bit.
    """

    rows: int
    columns: int
    samples: int  #: a pixel: 1, or 3 in color
    photometric: str
    planar: int  #: 1 where each color has a plane of its own
    bits_allocated: int
    bits_stored: int
    signed: bool
    frames: int = 1
    packed: bool = False  #: received with eight samples in a byte
    unused_below: int = 0  #: received with so many bits below each sample

    @property
    def native_bytes(self) -> int:
        """Length of the pixel data, as received, where they are not compressed."""
        # Two pixels of YBR_FULL_422 share their chrominance (PS3.3 C.7.6.3.1.2).
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        count = self.frames * self.rows * self.columns * samples
        return -(-count // 8) if self.packed else count * self.bits_allocated // 8


def is_native(transfer_syntax: str) -> bool:
    """Say whether pixels are not compressed; they are not where nothing is said."""
    return not transfer_syntax or transfer_syntax in NATIVE_SYNTAXES


def describe_pixels(instance: Instance, limits: Limits) -> ImagePixels:
    """Return what the header says of the image, before anything is allocated for it.

    Raises
    ------
    UnreadableScanError
        If there are no pixels, more samples in all frames together than the
        limit, or a description that no image can have.
    """
    frames = frames_of(instance)
    rows, columns = _one(instance, "Rows"), _one(instance, "Columns")
    photometric = instance.code("PhotometricInterpretation")
    if photometric not in _GRAY | _COLOR:
        raise unreadable(
            Reason.UNSUPPORTED_PIXELS, "the photometric interpretation is none that is read"
        )
    samples = 1 if photometric in _GRAY else 3
    if _one(instance, "SamplesPerPixel", absent=1) != samples:
        raise unreadable(
            Reason.MALFORMED, "Samples per Pixel contradicts the photometric interpretation"
        )
    if not (1 <= rows <= _LONGEST_SIDE and 1 <= columns <= _LONGEST_SIDE):
        raise unreadable(Reason.MALFORMED, f"an image of {rows} x {columns} pixels is none")
    if rows * columns * samples * frames > limits.samples:
        raise unreadable(
            Reason.TOO_LARGE,
            f"{frames} x {rows} x {columns} x {samples} samples are above {limits.samples}",
        )
    allocated = _one(instance, "BitsAllocated")
    stored = _one(instance, "BitsStored", absent=allocated)
    if allocated not in _BITS_ALLOCATED or not 1 <= stored <= allocated:
        raise unreadable(
            Reason.UNSUPPORTED_PIXELS, f"{stored} bits stored in {allocated} are not read"
        )
    packed = allocated == 1
    if packed and not (samples == 1 and is_native(instance.transfer_syntax)):
        raise unreadable(
            Reason.UNSUPPORTED_PIXELS, "single bits are read of gray images without compression"
        )
    unused_below = _one(instance, "HighBit", absent=stored - 1) + 1 - stored
    if not 0 <= unused_below <= allocated - stored:
        raise unreadable(Reason.MALFORMED, "High Bit and Bits Stored contradict each other")
    if unused_below and not is_native(instance.transfer_syntax):
        raise unreadable(
            Reason.UNSUPPORTED_PIXELS,
            "compressed samples that do not start at the lowest bit are not read",
        )
    return ImagePixels(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        planar=int(samples > 1 and _one(instance, "PlanarConfiguration", absent=0) == 1),
        bits_allocated=8 if packed else allocated,
        bits_stored=stored,
        signed=_one(instance, "PixelRepresentation", absent=0) == 1 and not packed,
        frames=frames,
        packed=packed,
        unused_below=unused_below,
    )


def pixel_data(instance: Instance, pixels: ImagePixels, limits: Limits) -> list[bytes]:
    """Return the pixels alone: little-endian samples of all frames, or each compressed frame.

    What stands in the pixel data besides the image goes: padding, bits that
    no sample uses (overlays once lay there), comments in the codestream,
    trailing fragments. A compressed frame announces the header's own size, so
    that no decoder can be made to allocate more.

    Raises
    ------
    UnreadableScanError
        If the pixel data are shorter than the image, contradict the header, or
        are written in a way that is not read.
    """
    element = instance.elements["PixelData"]
    if is_native(instance.transfer_syntax):
        if element.undefined_length:
            raise unreadable(
                Reason.UNSUPPORTED_TRANSFER_SYNTAX,
                "the pixels are compressed, and the transfer syntax does not say how",
            )
        return [_native_samples(instance, pixels)]
    if instance.transfer_syntax not in DECODED_SYNTAXES:
        raise unreadable(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX, "the transfer syntax is none that is decoded"
        )
    if not can_decode(instance.transfer_syntax):
        raise unreadable(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            "lossless and 12-bit JPEG take the package imagecodecs, which is not installed",
        )
    if not element.undefined_length:
        raise unreadable(Reason.MALFORMED, "compressed pixel data must have undefined length")
    return [
        _bare_frame(frame, instance.transfer_syntax, pixels)
        for frame in _compressed_frames(element, pixels.frames, limits)
    ]


def _compressed_frames(element: Element, frames: int, limits: Limits) -> list[bytes]:
    """Return the fragments of each frame, joined (PS3.5 annex A.4)."""
    parts = fragments(element, limits)
    if frames == 1:
        return [b"".join(parts)]
    if len(parts) == frames:
        return [bytes(part) for part in parts]
    # The offset table, if it is there, says at which fragment each frame begins.
    (length,) = struct.unpack_from("<L", element.value, 4) if len(element.value) >= 8 else (0,)
    offsets = struct.unpack_from(f"<{length // 4}L", element.value, 8)
    begins = list(accumulate((8 + len(part) for part in parts), initial=0))
    if len(offsets) != frames or not set(offsets) <= set(begins[:-1]):
        raise unreadable(
            Reason.UNDECODABLE,
            f"it is not said which of {len(parts)} fragments are which of {frames} frames",
        )
    starts = [begins.index(offset) for offset in offsets]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise unreadable(Reason.MALFORMED, "the offset table of the frames is in no order")
    return [b"".join(parts[start:end]) for start, end in pairwise([*starts, len(parts)])]


def _bare_frame(frame: bytes, transfer_syntax: str, pixels: ImagePixels) -> bytes:
    if not frame:
        raise unreadable(Reason.NO_PIXELS, "the pixel data hold no frame")
    try:
        frame = bare_codestream(frame)
        announced = read_frame_size(frame, transfer_syntax)
        frame = blank_comments(frame, transfer_syntax)
    except CodestreamError as error:
        raise unreadable(Reason.UNDECODABLE, str(error)) from None
    if announced is not None and (
        (announced.rows, announced.columns, announced.samples)
        != (pixels.rows, pixels.columns, pixels.samples)
        or announced.precision > pixels.bits_allocated
    ):
        raise unreadable(Reason.UNDECODABLE, OTHER_SIZE)
    return frame


def frames_of(instance: Instance) -> int:
    """Return how many frames an instance with pixel data has.

    Raises
    ------
    UnreadableScanError
        If there are no pixels, or their number is none.
    """
    if "PixelData" not in instance:
        if "FloatPixelData" in instance or "DoubleFloatPixelData" in instance:
            raise unreadable(Reason.UNSUPPORTED_PIXELS, "floating-point pixels are not read")
        raise unreadable(Reason.NO_PIXELS, "the instance has no pixel data")
    frames = instance.numbers("NumberOfFrames")
    if instance.text("NumberOfFrames") and (len(frames) != 1 or frames[0] < 1):
        raise unreadable(Reason.MALFORMED, "Number of Frames is no number above 0")
    return int(frames[0]) if frames else 1


def _native_samples(instance: Instance, pixels: ImagePixels) -> bytes:
    element = instance.elements["PixelData"]
    needed = pixels.native_bytes
    if len(element.value) < needed:
        raise unreadable(
            Reason.TRUNCATED,
            f"the pixel data have {len(element.value)} bytes, the image needs {needed}",
        )
    if instance.encoding.little_endian:
        samples = bytes(element.value[:needed])
    elif pixels.bits_allocated == 8:
        # Bytes lie in 16-bit words where the VR says so, which swap as a whole.
        words = element.vr == b"OW"
        samples = (instance.words(element) if words else bytes(element.value))[:needed]
    else:
        big = np.frombuffer(element.value[:needed], dtype=f">u{pixels.bits_allocated // 8}")
        samples = big.astype(big.dtype.newbyteorder("<")).tobytes()
    if pixels.packed:
        # The first of eight is the lowest bit (PS3.5 section 8.1.1).
        bits = np.frombuffer(samples, dtype=np.uint8)
        count = pixels.frames * pixels.rows * pixels.columns
        return np.unpackbits(bits, count=count, bitorder="little").tobytes()
    if pixels.bits_stored == pixels.bits_allocated:
        return samples
    kind = "i" if pixels.signed else "u"
    values = np.frombuffer(samples, dtype=f"<{kind}{pixels.bits_allocated // 8}")
    # Shifting out and back extends the sign where there is one.
    unused = pixels.bits_allocated - pixels.bits_stored
    return ((values << (unused - pixels.unused_below)) >> unused).astype(values.dtype).tobytes()


def _one(instance: Instance, keyword: str, *, absent: int | None = None) -> int:
    values = instance.integers(keyword)
    if values:
        return values[0]
    if absent is None:
        raise unreadable(Reason.MALFORMED, f"{keyword} is absent or no number")
    return absent
