"""Writing a small data set in explicit VR little-endian (PS3.5 section 7, PS3.10 section 7).

The stored file's elements are few, known, and already in their final form.
A general writer spends three quarters of the time that a scan takes on
questions that do not arise here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

from monitor.intake.elements import LONG_VRS

#: A UUID of its own under 2.25 names the software that writes the files.
IMPLEMENTATION = "2.25.211694173458236284190276519064257038191"
IMPLEMENTATION_VERSION = "DRIFTWARD"

_PREAMBLE = bytes(128) + b"DICM"
_ITEM = struct.Struct("<HHL")
_PADDING = {"UI": b"\0"}
_INTEGERS = {"US": "H", "SS": "h"}
_UNDEFINED = 0xFFFF_FFFF
_SEQUENCE_END = _ITEM.pack(0xFFFE, 0xE0DD, 0)


@cache
def _known(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    return tag, dictionary_VR(tag)


class ElementWriter:
    """Collects elements in any order, and writes them in the order of their tags."""

    def __init__(self) -> None:
        self._written: dict[int, bytes] = {}

    def put_text(self, keyword: str, *values: str) -> None:
        """Put a text, a UID or a decimal string in; several values are kept apart.

        Raises
        ------
        UnicodeEncodeError
            If it is not ASCII: what is stored needs no character set.
        """
        _, vr = _known(keyword)
        value = "\\".join(values).encode("ascii")
        self._put(keyword, vr, value + _PADDING.get(vr, b" ") * (len(value) % 2))

    def put_integers(
        self, keyword: str, values: Sequence[int], *, signed: bool = False
    ) -> None:
        """Put 16-bit integers in, where the standard leaves the sign open as they are."""
        _, vr = _known(keyword)
        vr = vr if vr in _INTEGERS else ("SS" if signed else "US")
        self._put(keyword, vr, struct.pack(f"<{len(values)}{_INTEGERS[vr]}", *values))

    def put_bytes(self, keyword: str, value: bytes, *, vr: str) -> None:
        """Put bytes or little-endian words in."""
        self._put(keyword, vr, value + b"\0" * (len(value) % 2))

    def put_frames(self, frames: Sequence[bytes]) -> None:
        """Put compressed frames in, a fragment each, without offsets (annex A.4)."""
        padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
        tag, _ = _known("PixelData")
        self._written[tag] = b"".join(
            (
                _header(tag, "OB", _UNDEFINED),
                _ITEM.pack(0xFFFE, 0xE000, 0),
                *(
                    part
                    for frame in padded
                    for part in (_ITEM.pack(0xFFFE, 0xE000, len(frame)), frame)
                ),
                _SEQUENCE_END,
            )
        )

    def put_item(self, keyword: str, item: ElementWriter) -> None:
        """Put a sequence of one item in."""
        content = item.data_set()
        self._put(keyword, "SQ", _ITEM.pack(0xFFFE, 0xE000, len(content)) + content)

    def data_set(self) -> bytes:
        """Return the data set."""
        return b"".join(self._written[tag] for tag in sorted(self._written))

    def _put(self, keyword: str, vr: str, value: bytes) -> None:
        tag, _ = _known(keyword)
        self._written[tag] = _header(tag, vr, len(value)) + value


def file_of(meta: ElementWriter, data_set: ElementWriter) -> bytes:
    """Return a DICOM file: a preamble of zeros, file meta information, and the data set."""
    meta.put_bytes("FileMetaInformationVersion", b"\0\1", vr="OB")
    group = meta.data_set()
    length = _header(0x0002_0000, "UL", 4) + struct.pack("<L", len(group))
    return b"".join((_PREAMBLE, length, group, data_set.data_set()))


def _header(tag: int, vr: str, length: int) -> bytes:
    code = vr.encode("ascii")
    if code in LONG_VRS:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, code, 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, code, length)
