from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom_instances import KEY, SITE, as_file, gradient, radiograph, set_frames, set_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, JPEGBaseline8Bit, JPEGLosslessSV1

from monitor.imaging.images import Image
from monitor.imaging.pixels import decode, prepare, thumbnail_png
from monitor.imaging.voi import VoiWindow
from monitor.intake.deidentify import deidentify
from monitor.intake.reading import read_instance
from monitor.intake.reasons import Reason
from registry.bundles.preprocessing import (
    DicomWindow,
    Fit,
    GrayWindow,
    PercentileWindow,
    Preprocessing,
    Resample,
    Unit,
)
from registry.errors import BundleError, UnreadableScanError


def preprocessing(window: GrayWindow | None = None, **changes: Any) -> Preprocessing:
    values: dict[str, Any] = {
        "unit": Unit.INSTANCE,
        "window": window or DicomWindow(),
        "size": (16, 16),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "fit": Fit.STRETCH,
        "resample": Resample.BOX,
    }
    return Preprocessing(**(values | changes))


def image_of(ds: Dataset) -> Image:
    """Decode as a stored file is decoded."""
    return decode(pydicom.dcmread(io.BytesIO(as_file(ds))))


def gray(values: npt.ArrayLike, **changes: Any) -> Image:
    return Image(values=np.asarray(values, dtype=np.float32), **changes)


# Every single-frame image bundled with pydicom whose decoder is there.
BUNDLED = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_palette.dcm",
    "examples_jpeg2k.dcm",
    "image_dfl.dcm",
)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the odd files
def test_a_stored_scan_decodes_to_what_pydicom_decodes_from_the_original(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    original = pydicom.dcmread(path)
    expected = original.pixel_array
    # Told to be an original without burned-in text, which it may well be.
    original.BurnedInAnnotation, original.ImageType = "NO", ["ORIGINAL", "PRIMARY"]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        original.setdefault(keyword, "1.2.3")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, original)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = deidentify(read_instance(stream.getvalue()), site=SITE, key=KEY)
        ds = pydicom.dcmread(io.BytesIO(scan.content))
        image = decode(ds)
    if original.PhotometricInterpretation == "PALETTE COLOR":
        expected = apply_color_lut(expected, original) / 65535
    elif expected.ndim == 3:
        expected = expected / (2**original.BitsStored - 1)
    else:
        expected = apply_modality_lut(expected, original)
    assert np.allclose(image.values, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_samples_of_any_width_and_sign_are_exact(bits: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    container = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    samples = np.linspace(low, high, 60).astype(container).reshape(6, 10)
    image = image_of(radiograph(samples, BitsStored=bits, HighBit=bits - 1))
    assert np.array_equal(image.values, samples.astype(np.float32))


def test_rescale_gives_hounsfield_units() -> None:
    ds = radiograph(
        gradient(),
        SOPClassUID=CTImageStorage,
        RescaleIntercept="-1024",
        RescaleSlope="0.5",
    )
    image = image_of(ds)
    assert image.values[0, 0] == -1024
    assert np.allclose(image.values, apply_modality_lut(gradient(), ds))


def test_32_bit_samples_are_rescaled_before_they_lose_precision() -> None:
    samples = np.array([[2**31, 2**31 + 1, 2**31 + 5]], dtype=np.uint32)
    ds = radiograph(samples, RescaleIntercept=str(-(2**31)), RescaleSlope="1")
    assert image_of(ds).values.tolist() == [[0, 1, 5]]


def table_item(first: int, entries: list[int], bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.array(entries, dtype="<u2").tobytes())
    return item


def test_look_up_tables_give_what_pydicom_gives() -> None:
    samples = np.arange(60, dtype=np.uint16).reshape(6, 10)
    modality = table_item(10, [7 * step for step in range(40)], 16)
    ds = radiograph(samples, ModalityLUTSequence=Sequence([modality]))
    assert np.array_equal(image_of(ds).values, apply_modality_lut(samples, ds))
    voi = table_item(5, [min(255, step * step) for step in range(30)], 8)
    ds = radiograph(samples, VOILUTSequence=Sequence([voi]), WindowCenter="1", WindowWidth="2")
    image = image_of(ds)
    assert image.voi is not None
    assert np.allclose(image.voi.apply(image.values) * 255, apply_voi_lut(samples, ds))


def test_padding_is_marked_and_black_and_takes_no_part_in_the_window() -> None:
    samples = gradient(8, 8, top=1000).astype(np.int16)
    samples[:2] = -2000
    ds = radiograph(samples, PixelPaddingValue=-2000)
    ds["PixelPaddingValue"].VR = "SS"
    image = image_of(ds)
    assert image.padding is not None
    assert np.array_equal(image.padding, samples == -2000)
    for inverted in (False, True):
        shown = prepare(
            gray(image.values, padding=image.padding, inverted=inverted),
            preprocessing(PercentileWindow(low=0, high=100), size=(8, 8)),
        )
        assert (shown[:, :2] == 0).all()
        assert {float(shown[0, 2:].min()), float(shown[0, 2:].max())} == {0.0, 1.0}


def test_a_range_of_padding_values_is_marked_in_either_order() -> None:
    samples = gradient(4, 4, top=1000)
    for value, limit in ((0, 100), (100, 0)):
        ds = radiograph(samples)
        ds.add_new("PixelPaddingValue", "US", value)
        ds.add_new("PixelPaddingRangeLimit", "US", limit)
        assert np.array_equal(image_of(ds).padding, samples <= 100)


def test_an_image_of_nothing_but_padding_values_has_none() -> None:
    ds = radiograph(np.zeros((4, 4), dtype=np.uint16))
    ds.add_new("PixelPaddingValue", "US", 0)
    assert image_of(ds).padding is None


@pytest.mark.parametrize("frames", [2, 30])
def test_several_frames_are_refused_not_guessed_at(frames: int) -> None:
    samples = np.tile(gradient(), (frames, 1))
    ds = radiograph(samples, Rows=12, NumberOfFrames=frames)
    with pytest.raises(UnreadableScanError, match=f"{frames} frames") as caught:
        image_of(ds)
    assert caught.value.reason == Reason.MULTI_FRAME


def test_damaged_pixels_are_undecodable_and_the_message_shows_nothing() -> None:
    ds = radiograph((gradient() >> 4).astype(np.uint8))
    set_frames(ds, b"\xff\xd8Yamada\xff\xd9", transfer_syntax=JPEGBaseline8Bit)
    with pytest.raises(UnreadableScanError) as caught:
        image_of(ds)
    assert caught.value.reason == Reason.UNDECODABLE
    assert "Yamada" not in str(caught.value)


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": "0", "RescaleIntercept": "1"},
        {"RescaleSlope": "1e39", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e30", "RescaleIntercept": "0"},
        {"Rows": 13},
    ],
    ids=str,
)
def test_what_gives_no_image_is_undecodable(elements: dict[str, Any]) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        image_of(radiograph(**elements))
    assert caught.value.reason == Reason.UNDECODABLE


def test_lossless_jpeg_is_exact() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    for samples in (gradient(), (gradient().astype(np.int16) - 2048)):
        ds = radiograph(samples)
        stored = samples.view(np.uint16) & np.uint16(0x0FFF)
        frame = imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=12)
        set_frames(ds, frame, transfer_syntax=JPEGLosslessSV1)
        scan = deidentify(read_instance(as_file(ds)), site=SITE, key=KEY)
        image = decode(pydicom.dcmread(io.BytesIO(scan.content)))
        assert np.array_equal(image.values, samples.astype(np.float32))


def test_the_images_own_window_is_used_where_the_declaration_says_so() -> None:
    image = gray([[0, 100], [200, 300]], voi=VoiWindow(center=150.5, width=101))
    shown = prepare(image, preprocessing(size=(8, 8)))
    assert shown[0, ::4, ::4].ravel().tolist() == pytest.approx([0, 0, 1, 1])


def test_an_image_without_a_window_takes_its_own_range() -> None:
    shown = prepare(gray([[-1000, 0], [1000, 3000]]), preprocessing(size=(8, 8)))
    assert shown[0, ::4, ::4].ravel().tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=1e-6)


def test_a_percentile_window_clips_what_lies_outside() -> None:
    values = np.random.default_rng(3).normal(size=(64, 64)).astype(np.float32)
    shown = prepare(
        gray(values), preprocessing(PercentileWindow(low=5, high=95), size=(64, 64))
    )
    low, high = np.percentile(values, (5, 95))
    assert np.allclose(shown[0], np.clip((values - low) / (high - low), 0, 1), atol=1e-6)


def test_monochrome1_is_the_negative_of_monochrome2() -> None:
    for window in (DicomWindow(), PercentileWindow(low=1, high=99)):
        declared = preprocessing(window, size=(12, 10))
        positive = prepare(image_of(radiograph()), declared)
        negative = prepare(
            image_of(radiograph(PhotometricInterpretation="MONOCHROME1")), declared
        )
        assert np.allclose(negative, 1 - positive)


def test_a_box_filter_averages_whole_blocks() -> None:
    values = np.random.default_rng(5).uniform(size=(64, 32)).astype(np.float32)
    values[0, 0], values[-1, -1] = 0, 1
    shown = prepare(gray(values), preprocessing(size=(16, 8)))
    expected = values.reshape(16, 4, 8, 4).mean(axis=(1, 3))
    assert np.allclose(shown[0], expected, atol=1e-6)


@pytest.mark.parametrize("resample", [Resample.BOX, Resample.BILINEAR, Resample.BICUBIC])
def test_stripes_finer_than_the_target_become_gray_and_do_not_alias(resample: Resample) -> None:
    stripes = np.tile([0.0, 1.0], (256, 128)).astype(np.float32)
    shown = prepare(gray(stripes), preprocessing(size=(32, 32), resample=resample))
    assert np.abs(shown[:, 2:-2, 2:-2] - 0.5).max() < 0.02


def test_padding_to_a_square_keeps_the_aspect_and_centres() -> None:
    values = np.ones((10, 40), dtype=np.float32)
    values[0, 0] = 0
    shown = prepare(gray(values), preprocessing(size=(40, 40), fit=Fit.PAD))
    assert (shown[:, :15] == 0).all()
    assert (shown[:, 25:] == 0).all()
    assert shown[0, 20, 20] == 1
    assert shown[0, 15, 0] == 0


def test_stretching_fills_the_square() -> None:
    values = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (10, 1))
    shown = prepare(gray(values), preprocessing(size=(40, 40), resample=Resample.BILINEAR))
    assert np.allclose(shown[0], np.tile(values[:1], (40, 1)), atol=1e-6)


def test_normalisation_is_by_channel_and_gray_is_repeated() -> None:
    declared = preprocessing(size=(12, 10), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    plain = prepare(image_of(radiograph()), preprocessing(size=(12, 10)))
    assert np.array_equal(plain[0], plain[1])
    shown = prepare(image_of(radiograph()), declared)
    for channel, (mean, std) in enumerate(zip(declared.mean, declared.std, strict=True)):
        assert np.allclose(shown[channel], (plain[channel] - mean) / std, atol=1e-6)


def test_color_keeps_its_channels() -> None:
    samples = np.zeros((8, 8, 3), dtype=np.uint8)
    samples[:, :, 0], samples[:, :, 2] = 255, 51
    ds = radiograph()
    set_pixels(ds, samples)
    shown = prepare(image_of(ds), preprocessing(size=(8, 8)))
    assert shown[:, 3, 3].tolist() == pytest.approx([1.0, 0.0, 0.2])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**16),
    scale=st.sampled_from((1e-3, 1.0, 1e5)),
    window=st.sampled_from((DicomWindow(), PercentileWindow(low=2, high=98))),
    fit=st.sampled_from(Fit),
    resample=st.sampled_from(Resample),
    inverted=st.booleans(),
)
def test_whatever_the_image_the_input_is_finite_deterministic_and_within_bounds(
    rows: int,
    columns: int,
    seed: int,
    scale: float,
    window: GrayWindow,
    fit: Fit,
    resample: Resample,
    inverted: bool,
) -> None:
    values = scale * np.random.default_rng(seed).normal(size=(rows, columns))
    declared = preprocessing(
        window,
        size=(24, 20),
        fit=fit,
        resample=resample,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    before = values.astype(np.float32)
    image = gray(before.copy(), inverted=inverted)
    shown = prepare(image, declared)
    assert shown.shape == declared.shape
    assert shown.dtype == np.float32
    assert np.isfinite(shown).all()
    for channel in range(3):
        assert shown[channel].min() >= np.float32(declared.lowest[channel]) - 1e-5
        assert shown[channel].max() <= np.float32(declared.highest[channel]) + 1e-5
    assert np.array_equal(image.values, before)  # the image is not written to
    assert prepare(image, declared).tobytes() == shown.tobytes()


@pytest.mark.parametrize("window", [DicomWindow(), PercentileWindow(low=1, high=99)], ids=str)
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": "2048", "WindowWidth": "1e-50", "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": "2048", "WindowWidth": "1e-9", "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": "0", "WindowWidth": "1e-29", "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": "0", "WindowWidth": "1e300"},
        {"WindowCenter": "1e300", "WindowWidth": "10"},
        {"RescaleSlope": "1e-46", "RescaleIntercept": "0"},
        {"RescaleSlope": "-2e26", "RescaleIntercept": "0"},
    ],
    ids=str,
)
def test_a_header_with_absurd_numbers_gives_an_input_that_is_finite(
    elements: dict[str, str], window: GrayWindow
) -> None:
    image = image_of(radiograph(**elements))
    assert np.isfinite(prepare(image, preprocessing(window))).all()


def test_a_flat_image_is_prepared_without_a_division_by_zero() -> None:
    for window in (DicomWindow(), PercentileWindow(low=1, high=99)):
        shown = prepare(gray(np.full((4, 4), 7)), preprocessing(window))
        assert (shown == 0).all()


def test_a_unit_that_cannot_be_read_yet_is_refused() -> None:
    with pytest.raises(BundleError, match="series"):
        prepare(gray([[0, 1]]), preprocessing(unit=Unit.SERIES))


def test_an_impossible_image_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="float32"):
        Image(values=np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32"):
        gray(np.zeros((2, 2, 4)))
    with pytest.raises(ValueError, match="padding"):
        gray(np.zeros((2, 2)), padding=np.zeros((3, 3), dtype=bool))


def opened(png: bytes) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(png))


def test_a_thumbnail_is_a_png_of_the_asked_side_without_metadata() -> None:
    png = thumbnail_png(image_of(radiograph(gradient(40, 20))))
    with opened(png) as picture:
        assert picture.format == "PNG"
        assert picture.size == (64, 128)
        assert picture.mode == "L"
        assert picture.info == {}
        pixels = np.asarray(picture)
    assert pixels[0, 0] < 10
    assert pixels[-1, -1] > 245
    assert thumbnail_png(image_of(radiograph(gradient(40, 20)))) == png


def test_a_thumbnail_of_color_is_in_color() -> None:
    samples = np.zeros((8, 8, 3), dtype=np.uint8)
    samples[:, :, 1] = 255
    ds = radiograph()
    set_pixels(ds, samples)
    with opened(thumbnail_png(image_of(ds), side=16)) as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((5, 5)) == (0, 255, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_a_thumbnail_of_an_extreme_shape_has_at_least_one_pixel(shape: tuple[int, int]) -> None:
    with opened(thumbnail_png(gray(np.zeros(shape)), side=32)) as picture:
        assert min(picture.size) >= 1
        assert max(picture.size) == 32


@pytest.mark.parametrize("side", [0, 5000])
def test_a_thumbnail_of_no_or_an_absurd_side_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match="side"):
        thumbnail_png(gray([[0, 1]]), side=side)
