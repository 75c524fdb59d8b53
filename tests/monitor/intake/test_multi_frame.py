"""Instances of several frames: stored whole, and each frame decoded to what it was."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom_instances import KEY, NATIVE, SITE, as_file, radiograph, set_frames
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from monitor.imaging.pixels import decode, frames_of, require_decodable
from monitor.imaging.voi import VoiWindow
from monitor.intake.allowed import ALLOWED
from monitor.intake.deidentify import deidentify
from monitor.intake.limits import Limits
from monitor.intake.reading import read_instance
from monitor.intake.reasons import Reason
from registry.errors import UnreadableScanError


def kept(content: bytes) -> Dataset:
    scan = deidentify(read_instance(content), site=SITE, key=KEY)
    return pydicom.dcmread(io.BytesIO(scan.content))


def reason_of(content: bytes) -> Reason:
    with pytest.raises(UnreadableScanError) as caught:
        kept(content)
    return Reason(caught.value.reason)


def frames(count: int = 5, *, rows: int = 12, columns: int = 10) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 4096, (count, rows, columns)).astype(np.uint16)


def cine(samples: npt.NDArray[Any], **elements: Any) -> Dataset:
    ds = radiograph(samples[0], NumberOfFrames=len(samples), **elements)
    data = samples.tobytes()
    ds.add_new("PixelData", "OW", data + b"\0" * (len(data) % 2))
    return ds


def encoded(samples: npt.NDArray[np.uint16]) -> list[bytes]:
    return [
        bytes(
            imagecodecs.jpeg2k_encode(
                one, codecformat="j2k", reversible=True, level=0, bitspersample=12
            )
        )
        for one in samples
    ]


def values_of(ds: Dataset) -> npt.NDArray[np.float32]:
    return np.stack([image.values for image in frames_of(ds)])


@pytest.mark.parametrize("syntax", NATIVE)
def test_every_frame_is_kept_in_every_native_syntax(syntax: str) -> None:
    samples = frames()
    written = samples.astype(">u2") if syntax == ExplicitVRBigEndian else samples
    ds = cine(written)
    ds.file_meta.TransferSyntaxUID = syntax
    stored = kept(as_file(ds))
    assert stored.NumberOfFrames == 5
    assert np.array_equal(stored.pixel_array, samples)
    assert np.array_equal(values_of(stored), samples.astype(np.float32))


def test_one_frame_is_stored_as_before() -> None:
    samples = frames(1)
    assert kept(as_file(cine(samples))) == kept(as_file(radiograph(samples[0])))
    assert "NumberOfFrames" not in kept(as_file(cine(samples)))


def test_several_are_not_decoded_without_saying_which() -> None:
    stored = kept(as_file(cine(frames())))
    with pytest.raises(UnreadableScanError) as caught:
        decode(stored)
    assert caught.value.reason == Reason.MULTI_FRAME
    require_decodable(stored)


def test_compressed_frames_keep_no_comment_and_stay_apart() -> None:
    samples = frames()
    ds = cine(samples)
    comment = b"\xff\x64" + struct.pack(">HH", 8, 1) + b"ZQXW"
    commented = []
    for frame in encoded(samples):
        start = frame.index(b"\xff\x52")
        commented.append(frame[:start] + comment + frame[start:])
    set_frames(ds, *commented, transfer_syntax=JPEG2000Lossless)
    scan = deidentify(read_instance(as_file(ds)), site=SITE, key=KEY)
    assert b"ZQXW" not in scan.content
    stored = pydicom.dcmread(io.BytesIO(scan.content))
    assert np.array_equal(values_of(stored), samples.astype(np.float32))


@pytest.mark.parametrize("has_offsets", [True, False])
def test_frames_in_several_fragments_are_told_apart_by_their_offsets_alone(
    has_offsets: bool,
) -> None:
    samples = frames()
    ds = cine(samples)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data = encapsulate(encoded(samples), fragments_per_frame=2, has_bot=has_offsets)
    ds.add_new("PixelData", "OB", data)
    ds["PixelData"].is_undefined_length = True
    if has_offsets:
        stored = kept(as_file(ds))
        assert np.array_equal(values_of(stored), samples.astype(np.float32))
    else:
        assert reason_of(as_file(ds)) == Reason.UNDECODABLE


def test_offsets_in_no_order_are_malformed() -> None:
    samples = frames(3)
    ds = cine(samples)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data = bytearray(encapsulate(encoded(samples), fragments_per_frame=2, has_bot=True))
    first, second, third = struct.unpack_from("<3L", data, 8)
    struct.pack_into("<3L", data, 8, first, third, second)
    ds.add_new("PixelData", "OB", bytes(data))
    ds["PixelData"].is_undefined_length = True
    assert reason_of(as_file(ds)) == Reason.MALFORMED


def test_each_compressed_frame_must_be_of_the_header_s_size() -> None:
    samples = frames()
    ds = cine(samples)
    others = encoded(frames(1, rows=11))
    set_frames(ds, *encoded(samples)[:4], *others, transfer_syntax=JPEG2000Lossless)
    assert reason_of(as_file(ds)) == Reason.UNDECODABLE


def test_a_frame_that_cannot_be_decoded_is_found_before_the_scan_is_taken() -> None:
    samples = frames()
    broken = encoded(samples)
    broken[3] = broken[3][:-40] + bytes(40)
    ds = cine(samples)
    set_frames(ds, *broken[:3], broken[3][:90], broken[4], transfer_syntax=JPEG2000Lossless)
    with pytest.raises(UnreadableScanError):
        require_decodable(kept(as_file(ds)))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 6}, Reason.TRUNCATED),
        ({"NumberOfFrames": 0}, Reason.MALFORMED),
        ({"NumberOfFrames": 2**31 - 1}, Reason.TOO_LARGE),
    ],
    ids=str,
)
def test_an_impossible_number_of_frames_is_refused(
    elements: dict[str, Any], reason: Reason
) -> None:
    ds = cine(frames())
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    assert reason_of(as_file(ds)) == reason


def test_all_frames_together_stay_below_the_limit() -> None:
    content = as_file(cine(frames()))
    enough = Limits(samples=5 * 120)
    assert deidentify(read_instance(content), site=SITE, key=KEY, limits=enough).frames == 5
    with pytest.raises(UnreadableScanError) as caught:
        deidentify(
            read_instance(content), site=SITE, key=KEY, limits=Limits(samples=5 * 120 - 1)
        )
    assert caught.value.reason == Reason.TOO_LARGE


def test_single_bits_run_on_from_frame_to_frame() -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    ds = radiograph(BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=3)
    ds.Rows, ds.Columns = 5, 7
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    ds.add_new("PixelData", "OB", packed + b"\0" * (len(packed) % 2))
    assert np.array_equal(ds.pixel_array, bits)
    assert np.array_equal(values_of(kept(as_file(ds))), bits.astype(np.float32))


@pytest.mark.parametrize(
    "name",
    ["examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm"],
)
def test_real_cines_decode_to_what_pydicom_decodes_from_the_original(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    original = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = original.pixel_array
    original.BurnedInAnnotation, original.ImageType = "NO", ["ORIGINAL", "PRIMARY"]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        original.setdefault(keyword, "1.2.3")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, original)
    stored = kept(stream.getvalue())
    white = 2**original.BitsStored - 1
    assert len(expected) == stored.NumberOfFrames == original.NumberOfFrames
    assert np.allclose(values_of(stored), expected / white, atol=1e-7)


def group(sequence: str, **elements: Any) -> Dataset:
    item, inner = Dataset(), Dataset()
    for keyword, value in elements.items():
        setattr(inner, keyword, value)
    setattr(item, sequence, Sequence([inner]))
    return item


def merged(*groups: Dataset) -> Dataset:
    item = Dataset()
    for one in groups:
        item.update(one)
    return item


def rescale(slope: str, intercept: str) -> Dataset:
    return group(
        "PixelValueTransformationSequence",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        RescaleType="HU",
    )


def window(center: str, width: str) -> Dataset:
    return group("FrameVOILUTSequence", WindowCenter=center, WindowWidth=width)


def enhanced(shared: Dataset, per_frame: list[Dataset], **elements: Any) -> Dataset:
    ds = cine(frames(3), SOPClassUID=EnhancedCTImageStorage, Modality="CT", **elements)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    if per_frame:
        ds.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return ds


@pytest.mark.parametrize("syntax", NATIVE)
def test_what_all_frames_say_is_read_from_shared_and_from_own_groups(syntax: str) -> None:
    own = [merged(rescale("2", "-1024")) for _ in range(3)]
    measures = group("PixelMeasuresSequence", PixelSpacing=["0.5", "0.5"], SliceThickness="3")
    ds = enhanced(merged(window("40", "400"), measures), own)
    ds.file_meta.TransferSyntaxUID = syntax
    samples = frames(3)
    if syntax == ExplicitVRBigEndian:
        ds.add_new("PixelData", "OW", samples.astype(">u2").tobytes())
    stored = kept(as_file(ds))
    assert not [element for element in stored if element.VR == "SQ"]
    assert (stored.SliceThickness, list(stored.PixelSpacing)) == (3, [0.5, 0.5])
    for frame in range(3):
        image = decode(stored, frame=frame)
        assert np.array_equal(image.values, samples[frame] * np.float32(2) - np.float32(1024))
        assert image.voi == VoiWindow(center=40, width=400)


@pytest.mark.parametrize(
    "differing",
    [
        [rescale("2", "-1024"), rescale("2", "-1024"), rescale("1", "-1024")],
        [window("40", "400"), window("41", "400"), window("40", "400")],
        [window("40", "400"), Dataset(), window("40", "400")],
    ],
    ids=["slope", "window", "a window that one lacks"],
)
def test_frames_that_differ_in_what_samples_mean_are_refused(differing: list[Dataset]) -> None:
    ds = enhanced(Dataset(), differing)
    with pytest.raises(
        UnreadableScanError, match="differ in their rescale or window"
    ) as caught:
        kept(as_file(ds))
    assert caught.value.reason == Reason.MULTI_FRAME


def test_a_frame_s_own_value_goes_before_the_shared_one() -> None:
    ds = enhanced(rescale("1", "0"), [rescale("3", "5") for _ in range(3)])
    assert (kept(as_file(ds)).RescaleSlope, kept(as_file(ds)).RescaleIntercept) == (3, 5)


def test_a_thickness_that_differs_is_left_out() -> None:
    own = [group("PixelMeasuresSequence", SliceThickness=str(number)) for number in (1, 2, 3)]
    assert "SliceThickness" not in kept(as_file(enhanced(Dataset(), own)))


def test_fewer_groups_than_frames_are_malformed() -> None:
    ds = enhanced(Dataset(), [rescale("1", "0")] * 2)
    assert reason_of(as_file(ds)) == Reason.MALFORMED


def test_nothing_else_of_functional_groups_is_kept() -> None:
    secret = group("FrameContentSequence", FrameComments="ZQXW was here")
    ds = enhanced(merged(rescale("1", "0"), secret), [])
    assert b"ZQXW" not in deidentify(read_instance(as_file(ds)), site=SITE, key=KEY).content


def test_a_derived_enhanced_object_is_no_scan() -> None:
    ds = enhanced(Dataset(), [], ImageType=["DERIVED", "PRIMARY", "PROJECTION IMAGE"])
    ds.SOPClassUID = EnhancedMRImageStorage
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert reason_of(as_file(ds)) == Reason.DERIVED


def test_what_is_stored_of_several_frames_is_on_the_list() -> None:
    stored = kept(as_file(enhanced(rescale("2", "-1024"), [window("40", "400")] * 3)))
    assert {element.keyword for element in stored} <= ALLOWED.keys()
    assert ALLOWED["NumberOfFrames"].check([str(stored.NumberOfFrames)])
