"""What refused content is one by, whatever road it came by.

Roads write one instance in other bytes: with another preamble and file meta
information, in another transfer syntax, with or without lengths of sequences.
What they do not touch is its UID and its image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from monitor.intake.elements import fragments
from monitor.intake.image_pixels import is_native
from monitor.intake.limits import DEFAULT_LIMITS
from monitor.intake.reading import Instance, data_set_start, read_instance
from registry.errors import UnreadableScanError

#: What says which samples of the pixel data are seen, and as what. A word that no text is
#: burned in holds for an image, so it must not hold for other bits of the same bytes.
_LAYOUT = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_TEXTS = frozenset(("SOPClassUID", "PhotometricInterpretation", "NumberOfFrames"))
_PALETTES = tuple(
    f"{kind}{color}PaletteColorLookupTableData"
    for kind in ("", "Segmented")
    for color in ("Red", "Green", "Blue")
)


def fingerprint(content: bytes) -> bytes:
    """Return a digest of a file, equal for what is the same instance with the same image.

    A document is told apart by its UID. What cannot be read as an instance
    with a UID is told apart by its bytes behind the file meta information.
    """
    try:
        instance = read_instance(content)
        uid = instance.text("SOPInstanceUID")
        parts = [uid.encode(), *_image(instance)] if uid else []
    except UnreadableScanError:
        parts = []
    if not parts:
        return hashlib.sha256(b"bytes\0" + content[data_set_start(content) :]).digest()
    digest = hashlib.sha256(b"instance\0")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _image(instance: Instance) -> Iterator[bytes]:
    for keyword in _LAYOUT:
        value = instance.text(keyword) if keyword in _TEXTS else instance.integers(keyword)
        yield f"{keyword}={value}".encode()
    for keyword in _PALETTES:
        if keyword in instance:
            yield keyword.encode() + instance.words(instance.elements[keyword])
    pixels = instance.elements.get("PixelData")
    if pixels is None:
        return
    if not is_native(instance.transfer_syntax):
        # Fragments are cut, and padded, as a road likes.
        yield b"".join(fragments(pixels, DEFAULT_LIMITS)).rstrip(b"\0")
        return
    bits = next(iter(instance.integers("BitsAllocated")), 0)
    swapped = instance.words(pixels) if bits > 8 or pixels.vr == b"OW" else bytes(pixels.value)
    yield swapped.rstrip(b"\0")
