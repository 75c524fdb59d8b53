from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_instances import (
    KEY,
    NATIVE,
    SITE,
    as_file,
    gradient,
    in_native_syntax,
    radiograph,
    set_frames,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from monitor.imaging.codestreams import OTHER_SIZE
from monitor.imaging.pixels import decode
from monitor.intake.decoding import DecodingProcess
from monitor.intake.intake import Accepted, Rejected, contradiction, prepare, prepare_bytes
from monitor.intake.limits import Limits
from monitor.intake.reasons import Reason

FILE = as_file(radiograph())

DECODER = DecodingProcess()


def accepted(content: bytes) -> Accepted:
    outcome = prepare_bytes(content, site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Accepted), outcome
    return outcome


def gray_8_bit(**elements: object) -> pydicom.Dataset:
    return radiograph((gradient(16, 24) >> 4).astype(np.uint8), **elements)


def test_a_radiograph_is_accepted_de_identified_and_decodable() -> None:
    outcome = accepted(FILE)
    assert outcome.identity == (SITE, outcome.pseudonyms.instance)
    assert outcome.attributes.modality == "CR"
    ds = pydicom.dcmread(io.BytesIO(outcome.content))
    assert np.array_equal(decode(ds).values, gradient().astype(np.float32))
    assert ds.SOPInstanceUID == outcome.pseudonyms.instance


def test_a_file_and_its_bytes_are_prepared_alike(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(FILE)
    assert prepare(path, site=SITE, key=KEY, decoder=DECODER) == accepted(FILE)


def test_the_same_file_by_any_native_road_is_the_same_scan() -> None:
    scans = [accepted(in_native_syntax(transfer_syntax)) for transfer_syntax in NATIVE]
    assert len({scan.identity for scan in scans}) == 1
    assert len({scan.content for scan in scans}) == 1


def test_what_is_refused_keeps_its_original_and_shows_nothing_of_it() -> None:
    content = as_file(radiograph(BurnedInAnnotation="YES"))
    outcome = prepare_bytes(content, site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.BURNED_IN
    assert outcome.content == content
    assert "Yamada" not in repr(outcome)


def test_what_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(FILE)
    outcome = prepare(path, site=SITE, key=KEY, decoder=DECODER, limits=Limits(file_bytes=100))
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.content) == (Reason.TOO_LARGE, None)


def test_a_retry_after_the_cause_is_gone_is_accepted() -> None:
    tight = Limits(samples=10)
    outcome = prepare_bytes(FILE, site=SITE, key=KEY, decoder=DECODER, limits=tight)
    assert isinstance(outcome, Rejected)
    assert outcome.content is not None
    assert accepted(outcome.content) == accepted(FILE)


def test_a_resend_does_not_contradict() -> None:
    stored = accepted(FILE)
    again = accepted(as_file(radiograph(PatientName="Yamada^H.")))
    assert (
        contradiction(
            again,
            stored_pixel_digest=stored.pixel_digest,
            stored_content=lambda: pytest.fail("equal digests need no look at the vault"),
        )
        is None
    )


def test_a_resend_that_was_compressed_without_loss_does_not_contradict() -> None:
    ds = gray_8_bit()
    stored = accepted(as_file(ds))
    stream = io.BytesIO()
    PillowImage.fromarray(ds.pixel_array).save(stream, "JPEG2000", no_jp2=True)
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEG2000Lossless)
    again = accepted(as_file(ds))
    assert again.identity == stored.identity
    assert again.pixel_digest != stored.pixel_digest
    assert (
        contradiction(
            again,
            stored_pixel_digest=stored.pixel_digest,
            stored_content=lambda: stored.content,
        )
        is None
    )


def test_other_pixels_under_the_same_uid_contradict() -> None:
    stored = accepted(FILE)
    changed = gradient()
    changed[0, 0] += 1
    again = accepted(as_file(radiograph(changed)))
    assert again.identity == stored.identity
    sentence = contradiction(
        again, stored_pixel_digest=stored.pixel_digest, stored_content=lambda: stored.content
    )
    assert sentence is not None
    assert "same SOP Instance UID" in sentence


def test_a_frame_that_does_not_decode_is_refused() -> None:
    ds = gray_8_bit()
    stream = io.BytesIO()
    PillowImage.fromarray(ds.pixel_array).save(stream, "JPEG2000", no_jp2=True)
    damaged = stream.getvalue()[:120]
    set_frames(ds, damaged, transfer_syntax=JPEG2000Lossless)
    outcome = prepare_bytes(as_file(ds), site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_truncated.dcm", Reason.TRUNCATED),
        ("rtplan_truncated.dcm", Reason.TRUNCATED),
        ("no_meta.dcm", Reason.NOT_DICOM),
        ("reportsi.dcm", Reason.REPORT),
        ("rtdose_rle.dcm", Reason.NOT_AN_IMAGE),
        ("waveform_ecg.dcm", Reason.NOT_AN_IMAGE),
        ("liver_1frame.dcm", Reason.SEGMENTATION),
        ("examples_ybr_color.dcm", Reason.BURNED_IN_UNKNOWN),
        ("SC_rgb_rle.dcm", Reason.BURNED_IN_UNKNOWN),
        ("examples_palette.dcm", Reason.BURNED_IN_UNKNOWN),
        ("MR_small.dcm", Reason.DERIVED),
    ],
)
def test_odd_files_are_refused_with_their_true_reason(name: str, reason: Reason) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    outcome = prepare(Path(path), site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize(
    "described",
    [
        {"Rows": 12},
        {"Rows": 39},
        {"Rows": 41, "Columns": 41},
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
    ],
    ids=", ".join,
)
def test_a_whole_frame_of_another_size_than_the_header_says_is_refused_as_that(
    syntax: str, described: dict[str, object]
) -> None:
    ds = radiograph(gradient(40, 40))
    match syntax:
        case str(uid) if uid == JPEG2000Lossless:
            frame = imagecodecs.jpeg2k_encode(
                gradient(40, 40), codecformat="j2k", reversible=True, level=0, bitspersample=12
            )
            set_frames(ds, bytes(frame), transfer_syntax=syntax)
        case _:
            ds.compress(syntax, generate_instance_uid=False)
    accepted(as_file(ds))
    for keyword, value in described.items():
        setattr(ds, keyword, value)
    outcome = prepare_bytes(as_file(ds), site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.detail) == (Reason.UNDECODABLE, OTHER_SIZE)


def test_a_damaged_frame_of_run_lengths_is_refused_as_that() -> None:
    ds = radiograph(gradient(40, 40))
    ds.compress(RLELossless, generate_instance_uid=False)
    damaged = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    damaged[4:8] = struct.pack("<L", 1 << 20)  # where the first segment begins
    set_frames(ds, bytes(damaged), transfer_syntax=RLELossless)
    outcome = prepare_bytes(as_file(ds), site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.UNDECODABLE
    assert "RLE" in outcome.detail


def compressed() -> bytes:
    ds = gray_8_bit()
    stream = io.BytesIO()
    PillowImage.fromarray(ds.pixel_array).save(stream, "JPEG")
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEGBaseline8Bit)
    return as_file(ds)


SEEDS = (FILE, compressed(), in_native_syntax("1.2.840.10008.1.2.2"))


@settings(deadline=None, derandomize=True)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=6),
    cut=st.floats(0.2, 1),
)
def test_a_damaged_file_is_accepted_or_refused_and_never_anything_else(
    seed: bytes, edits: list[tuple[float, bytes]], cut: float
) -> None:
    damaged = bytearray(seed)
    for place, replacement in edits:
        position = int(place * len(damaged))
        damaged[position : position + len(replacement)] = replacement
    outcome = prepare_bytes(
        bytes(damaged[: int(cut * len(damaged))]), site=SITE, key=KEY, decoder=DECODER
    )
    if isinstance(outcome, Accepted):
        assert b"Yamada" not in outcome.content
    else:
        assert outcome.detail
