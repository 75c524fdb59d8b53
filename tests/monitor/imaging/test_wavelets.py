"""Reduced decoding, compared with the wavelet transform as the standard writes it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom_instances import KEY, SITE, as_file, radiograph, set_frames, set_pixels
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import HTJ2K, HTJ2KLossless, JPEG2000Lossless

from monitor.imaging.codestreams import CodestreamError, read_wavelet_header
from monitor.imaging.pixels import decode, prepare
from monitor.imaging.wavelets import decode_without, levels_to_skip
from monitor.intake.deidentify import deidentify
from monitor.intake.reading import read_instance
from registry.bundles.preprocessing import (
    DicomWindow,
    Fit,
    PercentileWindow,
    Preprocessing,
    Unit,
)

Samples = npt.NDArray[Any]


def preprocessing(oversampling: int | None = 1, **changes: Any) -> Preprocessing:
    values: dict[str, Any] = {
        "unit": Unit.INSTANCE,
        "window": PercentileWindow(low=1, high=99),
        "size": (32, 32),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "wavelet_oversampling": oversampling,
    }
    return Preprocessing(**(values | changes))


def smooth(rows: int, columns: int, *, top: int = 3000, signed: bool = False) -> Samples:
    """Return 12-bit samples with large and small structure, far from the ends of the range."""
    rng = np.random.default_rng(rows * columns)
    coarse = PillowImage.fromarray(rng.uniform(size=(5, 4)).astype(np.float32))
    wave = np.asarray(coarse.resize((columns, rows), PillowImage.Resampling.BICUBIC))
    values = np.clip(400 + top * wave + rng.normal(0, 20, (rows, columns)), 200, 3800)
    return (values - 2048).astype(np.int16) if signed else values.astype(np.uint16)


def lossless(samples: Samples, **options: Any) -> bytes:
    if samples.dtype.kind == "i":  # written as what it is plus an offset, then marked signed
        frame = bytearray(lossless((samples + 2048).astype(np.uint16), **options))
        frame[42] |= 0x80
        return bytes(frame)
    settings = {"codecformat": "j2k", "reversible": True, "level": 0, "bitspersample": 12}
    return bytes(imagecodecs.jpeg2k_encode(samples, **(settings | options)))


def stored(
    samples: Samples, frame: bytes, *, syntax: str = JPEG2000Lossless, **elements: Any
) -> Dataset:
    """Return an instance as the vault keeps it."""
    ds = radiograph(samples, **elements)
    set_frames(ds, frame, transfer_syntax=syntax)
    scan = deidentify(read_instance(as_file(ds)), site=SITE, key=KEY)
    return pydicom.dcmread(io.BytesIO(scan.content))


def halved(values: Samples) -> Samples:
    """Return the low-pass half of columns, then of rows (T.800 F.4.2, F.4.8.1: 5/3)."""
    for axis in (0, 1):
        lines = np.moveaxis(values.astype(np.int64), axis, 0)
        count = len(lines)
        if count == 1:
            continue
        mirrored = np.pad(lines, [(2, 2), (0, 0)], mode="reflect")
        even, odd = mirrored[0::2], mirrored[1::2]  # both begin before the image
        high = odd[: len(even) - 1] - ((even[:-1] + even[1:]) >> 1)
        low = even[1 : 1 + (count + 1) // 2]
        low = low + ((high[: len(low)] + high[1 : 1 + len(low)] + 2) >> 2)
        values = np.moveaxis(low, 0, axis)
    return values


@pytest.mark.parametrize("shape", [(128, 96), (129, 99), (97, 130), (75, 85)], ids=str)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_what_is_decoded_is_the_standard_s_low_pass_to_the_bit(
    shape: tuple[int, int], signed: bool, skipped: int
) -> None:
    samples = smooth(*shape, signed=signed)
    expected = samples
    for _ in range(skipped):
        expected = halved(expected)
    decoded = decode_without(lossless(samples, resolutions=5), skipped)
    assert decoded.shape == expected.shape
    assert np.array_equal(decoded, expected)


def test_eight_bits_and_color_are_reduced_too() -> None:
    gray = (smooth(64, 80) >> 4).astype(np.uint8)
    frame = bytes(imagecodecs.jpeg2k_encode(gray, codecformat="j2k", reversible=True, level=0))
    assert np.array_equal(decode_without(frame, 1), halved(gray))
    color = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    frame = bytes(
        imagecodecs.jpeg2k_encode(color, codecformat="j2k", reversible=True, level=0, mct=False)
    )
    expected = np.stack([halved(color[:, :, channel]) for channel in range(3)], axis=2)
    assert np.array_equal(decode_without(frame, 1), expected)


def test_several_tiles_are_one_image() -> None:
    samples = (smooth(160, 128) >> 4).astype(np.uint8)
    frames = []
    for options in ({}, {"tile_size": (64, 64)}):
        stream = io.BytesIO()
        PillowImage.fromarray(samples).save(
            stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=4, **options
        )
        frames.append(decode_without(stream.getvalue(), 2).astype(float))
    whole, tiled = frames
    assert tiled.shape == whole.shape == (40, 32)
    assert np.median(np.abs(tiled - whole)) == 0, "tiles differ at their edges alone"
    assert np.abs(tiled - whole).max() < 10


def test_high_throughput_frames_are_reduced_and_never_wrap_around() -> None:
    samples = smooth(128, 96)
    samples[::7, ::5] = 0  # filtering overshoots below what the samples can be
    frame = bytes(imagecodecs.htj2k_encode(samples, reversible=True))
    expected = np.clip(halved(halved(samples)), 0, 2**16 - 1)
    assert np.array_equal(decode_without(frame, 2), expected)


@pytest.mark.parametrize(
    ("shape", "declared", "skipped"),
    [
        ((256, 256), preprocessing(1), 3),
        ((255, 255), preprocessing(1), 3),
        ((248, 248), preprocessing(1), 2),
        ((256, 256), preprocessing(2), 2),
        ((256, 256), preprocessing(8), 0),
        ((256, 256), preprocessing(None), 0),
        ((256, 64), preprocessing(1), 3),
        ((256, 64), preprocessing(1, fit=Fit.STRETCH), 1),
        ((31, 31), preprocessing(1), 0),
        ((2048, 2048), preprocessing(1, size=(8, 8)), 5),
    ],
    ids=str,
)
def test_the_smallest_level_that_still_serves_is_taken(
    shape: tuple[int, int], declared: Preprocessing, skipped: int
) -> None:
    samples = smooth(*shape)
    assert levels_to_skip(stored(samples, lossless(samples)), declared) == skipped


def test_what_a_mean_would_make_another_image_of_is_decoded_in_full() -> None:
    samples = smooth(128, 128)
    frame, declared = lossless(samples), preprocessing(1)
    assert levels_to_skip(stored(samples, frame), declared) == 2
    padded = radiograph(samples)
    padded.add_new("PixelPaddingValue", "US", 0)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", "OW", np.arange(4, dtype="<u2").tobytes())
    looked_up = radiograph(samples, ModalityLUTSequence=Sequence([table]))
    # A codestream of 12 bits for samples of 11, and one with another sign.
    narrow = radiograph(samples, BitsStored=11, HighBit=10)
    signed = radiograph(samples, PixelRepresentation=1)
    for ds in (padded, looked_up, narrow, signed):
        set_frames(ds, frame, transfer_syntax=JPEG2000Lossless)
        assert levels_to_skip(ds, declared) == 0
    native = radiograph(samples)
    assert levels_to_skip(native, declared) == 0
    broken = radiograph(samples)
    set_frames(broken, b"\xff\x4f\xff\x51no codestream", transfer_syntax=JPEG2000Lossless)
    assert levels_to_skip(broken, declared) == 0


@pytest.mark.parametrize("window", [DicomWindow(), PercentileWindow(low=1, high=99)])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless, HTJ2K])
def test_the_prepared_image_is_nearly_that_of_the_full_one(
    window: Any, inverted: bool, syntax: str
) -> None:
    samples = smooth(512, 384)
    if syntax == JPEG2000Lossless:
        frame = lossless(samples)
    else:
        frame = bytes(imagecodecs.htj2k_encode(samples, reversible=syntax == HTJ2KLossless))
    ds = stored(
        samples,
        frame,
        syntax=syntax,
        BitsStored=12 if syntax == JPEG2000Lossless else 16,
        HighBit=11 if syntax == JPEG2000Lossless else 15,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
        RescaleSlope="2",
        RescaleIntercept="-100",
        WindowCenter="3500",
        WindowWidth="5000",
    )
    declared = preprocessing(2, window=window)
    skipped = levels_to_skip(ds, declared)
    assert skipped == 3
    reduced = decode(ds, skipped_levels=skipped)
    assert reduced.values.shape == (64, 48)
    near = prepare(reduced, declared)
    full = prepare(decode(ds), replace(declared, wavelet_oversampling=None))
    assert np.abs(near - full).mean() < 0.01
    assert np.abs(near - full).max() < 0.1


def test_a_frame_whose_tiles_hold_fewer_levels_is_decoded_in_full() -> None:
    samples = smooth(64, 64)
    ds = stored(samples, lossless(samples, resolutions=2))
    assert levels_to_skip(ds, preprocessing(1, size=(8, 8))) == 1
    assert decode(ds, skipped_levels=5).values.shape == (64, 64)


def test_the_header_says_what_was_encoded() -> None:
    header = read_wavelet_header(lossless(smooth(67, 93), resolutions=4))
    assert (header.size.rows, header.size.columns, header.size.precision) == (67, 93, 12)
    assert (header.levels, header.signed, header.plain) == (3, False, True)
    assert header.shape_at(2) == (17, 24)
    assert read_wavelet_header(lossless(smooth(37, 53, signed=True))).signed


@pytest.mark.parametrize("length", [0, 4, 30, 45, 60])
def test_a_header_that_is_cut_short_is_an_error(length: int) -> None:
    with pytest.raises(CodestreamError):
        read_wavelet_header(lossless(smooth(37, 53))[:length])


def test_a_component_s_own_style_and_an_offset_are_seen() -> None:
    frame = lossless(smooth(64, 64))
    coding = frame.index(b"\xff\x52")
    (length,) = np.frombuffer(frame[coding + 2 : coding + 4], dtype=">u2")
    end = coding + 2 + int(length)
    own = b"\xff\x53\x00\x09\x00\x00\x02" + frame[coding + 10 : coding + 14]
    assert read_wavelet_header(frame[:end] + own + frame[end:]).levels == 2
    moved = bytearray(frame)
    moved[19] = 1
    assert not read_wavelet_header(bytes(moved)).plain


def test_color_by_the_codestream_s_own_transform_is_nearly_the_full_one() -> None:
    gray = (smooth(128, 128) >> 4).astype(np.uint8)
    color = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    ds = radiograph()
    set_pixels(ds, color)
    ds.PhotometricInterpretation = "YBR_RCT"
    frame = bytes(
        imagecodecs.jpeg2k_encode(color, codecformat="j2k", reversible=True, level=0, mct=True)
    )
    set_frames(ds, frame, transfer_syntax=JPEG2000Lossless)
    declared = preprocessing(2)
    assert levels_to_skip(ds, declared) == 1
    near = prepare(decode(ds, skipped_levels=1), declared)
    full = prepare(decode(ds), declared)
    assert np.abs(near - full).max() < 0.05


def test_a_reduced_image_lies_where_the_full_one_does() -> None:
    slope = np.linspace(200, 3800, 512, dtype=np.float32)
    samples = np.add.outer(slope, slope / 4).clip(0, 4095).astype(np.uint16)
    ds = stored(samples, lossless(samples), WindowCenter="2100", WindowWidth="6000")
    declared = preprocessing(2, window=DicomWindow())
    assert levels_to_skip(ds, declared) == 3
    near = prepare(decode(ds, skipped_levels=3), declared)
    full = prepare(decode(ds), declared)
    # A pixel of the input is 16 of the image; half a reduced one would show as 0.004.
    assert np.abs(near - full)[:, 2:-2, 2:-2].max() < 5e-4


def test_lossless_high_throughput_frames_decode_to_what_pydicom_decodes() -> None:
    for samples, bits in (
        (smooth(61, 47), 16),
        ((smooth(61, 47).astype(np.int16) - 2000), 16),
        ((smooth(61, 47) >> 4).astype(np.uint8), 8),
    ):
        frame = bytes(imagecodecs.htj2k_encode(samples, reversible=True))
        ds = stored(samples, frame, syntax=HTJ2KLossless, BitsStored=bits, HighBit=bits - 1)
        assert np.array_equal(ds.pixel_array, samples)
        assert np.array_equal(decode(ds).values, samples.astype(np.float32))


def test_a_high_throughput_frame_of_another_sign_is_mended_as_pydicom_mends_it() -> None:
    samples = smooth(61, 47)
    ds = radiograph(samples, PixelRepresentation=1, BitsStored=16, HighBit=15)
    set_frames(
        ds,
        bytes(imagecodecs.htj2k_encode(samples, reversible=True)),
        transfer_syntax=HTJ2KLossless,
    )
    assert np.array_equal(decode(ds).values, ds.pixel_array.astype(np.float32))
