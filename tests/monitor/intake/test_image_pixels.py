"""Samples of every form, as they are stored and decoded again."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom_instances import KEY, SITE, as_file, gradient, radiograph, set_frames, set_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from monitor.imaging.pixels import decode
from monitor.intake.deidentify import deidentify
from monitor.intake.reading import read_instance
from monitor.intake.reasons import Reason
from registry.errors import UnreadableScanError


def stored(content: bytes) -> Dataset:
    return pydicom.dcmread(
        io.BytesIO(deidentify(read_instance(content), site=SITE, key=KEY).content)
    )


def values_of(ds: Dataset) -> npt.NDArray[np.float32]:
    return decode(stored(as_file(ds))).values


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    seed=st.integers(0, 2**16),
    allocated=st.sampled_from((8, 16, 32)),
    stored_bits=st.integers(1, 32),
    below=st.integers(0, 31),
    signed=st.booleans(),
)
def test_samples_are_found_wherever_they_lie_and_overlays_beside_them_are_not(
    seed: int, allocated: int, stored_bits: int, below: int, signed: bool
) -> None:
    stored_bits = min(stored_bits, allocated)
    below = min(below, allocated - stored_bits)
    rng = np.random.default_rng(seed)
    lowest = -(2 ** (stored_bits - 1)) if signed else 0
    samples = rng.integers(lowest, lowest + 2**stored_bits, (5, 7))
    # Whatever lies above and below the samples is not theirs.
    mask = (2**stored_bits - 1) << below
    noise = rng.integers(0, 2**allocated, (5, 7)) & ~mask
    cells = ((samples << below) & mask) | noise
    ds = radiograph(cells.astype(f"u{allocated // 8}"))
    ds.BitsStored, ds.HighBit = stored_bits, below + stored_bits - 1
    ds.PixelRepresentation = int(signed)
    kept = stored(as_file(ds))
    assert (kept.BitsStored, kept.HighBit) == (stored_bits, stored_bits - 1)
    assert np.array_equal(decode(kept).values, samples.astype(np.float32))


@pytest.mark.parametrize("shape", [(4, 8), (5, 7), (1, 1), (3, 9)], ids=str)
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_single_bits_are_unpacked_to_what_pydicom_unpacks(
    shape: tuple[int, int], syntax: str
) -> None:
    bits = np.random.default_rng(1).integers(0, 2, shape).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    ds = radiograph(BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.Rows, ds.Columns = shape
    ds.file_meta.TransferSyntaxUID = syntax
    ds.add_new("PixelData", "OB", packed + b"\0" * (len(packed) % 2))
    assert np.array_equal(ds.pixel_array, bits)
    kept = stored(as_file(ds))
    assert (kept.BitsAllocated, kept.BitsStored) == (8, 1)
    assert np.array_equal(kept.pixel_array, bits)
    assert np.array_equal(decode(kept).values, bits.astype(np.float32))


def test_single_bits_in_big_endian_words_are_put_in_order() -> None:
    bits = np.random.default_rng(2).integers(0, 2, (4, 8)).astype(np.uint8)
    words = np.packbits(bits.ravel(), bitorder="little").view("<u2").astype(">u2")
    ds = radiograph(BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.Rows, ds.Columns = bits.shape
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.add_new("PixelData", "OW", words.tobytes())
    assert np.array_equal(values_of(ds), bits.astype(np.float32))


def test_too_few_single_bits_are_truncated() -> None:
    ds = radiograph(BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.Rows, ds.Columns = 9, 9
    ds.add_new("PixelData", "OB", bytes(10))
    with pytest.raises(UnreadableScanError) as caught:
        stored(as_file(ds))
    assert caught.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize(("interpretation", "bits"), [("RGB", 8), ("RGB", 16), ("YBR_FULL", 8)])
def test_color_in_pixels_or_planes_is_what_pydicom_makes_of_it(
    planar: int, interpretation: str, bits: int
) -> None:
    samples = np.random.default_rng(3).integers(0, 2**bits, (6, 10, 3)).astype(f"u{bits // 8}")
    ds = radiograph()
    set_pixels(ds, samples)
    ds.BitsStored, ds.HighBit = bits, bits - 1
    if planar:
        ds.PlanarConfiguration = 1
        data = samples.transpose(2, 0, 1).tobytes()
        ds.add_new("PixelData", "OB" if bits == 8 else "OW", data)
    ds.PhotometricInterpretation = interpretation
    expected = ds.pixel_array / (2**bits - 1)
    assert np.allclose(values_of(ds), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"HighBit": 10}, Reason.MALFORMED),
        ({"HighBit": 16}, Reason.MALFORMED),
        ({"BitsAllocated": 24}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsAllocated": 12}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsStored": 17}, Reason.UNSUPPORTED_PIXELS),
        ({"PhotometricInterpretation": "CMYK"}, Reason.UNSUPPORTED_PIXELS),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, Reason.UNSUPPORTED_PIXELS),
    ],
    ids=str,
)
def test_what_no_image_can_be_is_said_by_name(elements: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        stored(as_file(radiograph(**elements)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "elements",
    [
        {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        {"BitsStored": 12, "HighBit": 15},
    ],
    ids=str,
)
def test_forms_that_only_plain_samples_have_are_refused_of_compressed_ones(
    elements: dict[str, Any],
) -> None:
    ds = radiograph(gradient(), **elements)
    set_frames(ds, b"\xff\x4f\xff\x51", transfer_syntax=JPEG2000Lossless)
    with pytest.raises(UnreadableScanError) as caught:
        stored(as_file(ds))
    assert caught.value.reason == Reason.UNSUPPORTED_PIXELS
