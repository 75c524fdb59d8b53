"""Files that were cut short: small ones at every byte.

`make fuzz` cuts larger ones, at every byte before the pixels and at every 1,009th behind them.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import imagecodecs
import numpy as np
import pytest
from dicom_instances import (
    KEY,
    SITE,
    as_file,
    gradient,
    radiograph,
    set_frames,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from monitor.intake.decoding import DecodingProcess
from monitor.intake.intake import Accepted, Rejected, prepare_bytes
from monitor.intake.reading import data_set_start
from monitor.intake.reasons import Reason

#: Set by `make fuzz`.
_LONG = "FUZZ_EXAMPLES" in os.environ
_STEP = 1009
_SMALL, _LARGE = 40, 512
#: What may be said of a file that ends too soon. Without pixel data it is no image, and before
#: its SOP class it is nothing that can be told.
_TRUE = {
    Reason.NOT_DICOM,
    Reason.TRUNCATED,
    Reason.NOT_AN_IMAGE,
    Reason.NO_PIXELS,
    Reason.MALFORMED,
    Reason.UNDECODABLE,
}


def noisy(side: int, *, bits: int = 12) -> np.ndarray:
    """Return an image that no compression makes small."""
    rng = np.random.default_rng(side)
    smooth = gradient(side, side, top=2 ** (bits - 1))
    noise = rng.integers(0, 2 ** (bits - 1), (side, side))
    return (smooth + noise).astype(np.uint8 if bits == 8 else np.uint16)


def native(side: int, syntax: str) -> bytes:
    samples = noisy(side)
    ds = radiograph(samples.astype(">u2") if syntax == ExplicitVRBigEndian else samples)
    ds.file_meta.TransferSyntaxUID = syntax
    return as_file(ds)


def compressed(side: int, syntax: str) -> bytes:
    encoders: Mapping[str, Callable[[], bytes]] = {
        JPEGBaseline8Bit: lambda: imagecodecs.jpeg8_encode(noisy(side, bits=8)),
        JPEGLosslessSV1: lambda: imagecodecs.jpeg8_encode(
            noisy(side), lossless=True, bitspersample=12
        ),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
            noisy(side), codecformat="j2k", reversible=True, level=0, bitspersample=12
        ),
        HTJ2KLossless: lambda: imagecodecs.htj2k_encode(noisy(side), reversible=True),
    }
    ds = radiograph(noisy(side, bits=8) if syntax == JPEGBaseline8Bit else noisy(side))
    if syntax == HTJ2KLossless:
        ds.BitsStored, ds.HighBit = 16, 15
    if syntax in encoders:
        set_frames(ds, bytes(encoders[syntax]()), transfer_syntax=syntax)
    else:
        ds.compress(syntax, generate_instance_uid=False)
    return as_file(ds)


NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
COMPRESSED = (
    RLELossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodingProcess]:
    decoder = DecodingProcess()
    yield decoder
    decoder.close()


def pixels_begin(content: bytes, syntax: str) -> int:
    """Return where the pixel data begin, or the first deflated byte that tells of them."""
    tag = b"\x7f\xe0\0\x10" if syntax == ExplicitVRBigEndian else b"\xe0\x7f\x10\0"
    if syntax != DeflatedExplicitVRLittleEndian:
        return content.index(tag) + 12
    start = data_set_start(content)
    return next(
        length
        for length in range(start, len(content))
        if tag in zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:length])
    )


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda syntax: syntax.name)
def test_a_file_that_was_cut_short_is_never_a_scan(
    syntax: str, decoder: DecodingProcess
) -> None:
    make = native if syntax in NATIVE else compressed
    content = make(_LARGE if _LONG else _SMALL, syntax)
    whole = prepare_bytes(content, site=SITE, key=KEY, decoder=decoder)
    assert isinstance(whole, Accepted)
    begin = pixels_begin(content, syntax)
    lengths = [*range(begin), *range(begin, len(content), _STEP if _LONG else 1)]
    reasons = Counter[Reason]()
    for length in lengths:
        cut = prepare_bytes(content[:length], site=SITE, key=KEY, decoder=decoder)
        assert isinstance(cut, Rejected), length
        assert cut.reason in _TRUE, (length, cut.reason, cut.detail)
        assert cut.detail
        reasons[cut.reason] += 1
    assert reasons[Reason.TRUNCATED] > len(lengths) // 2
