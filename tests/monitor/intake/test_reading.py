from __future__ import annotations

import gzip
import io
import os
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_instances import NATIVE, as_file, in_native_syntax, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from monitor.intake import reading
from monitor.intake.limits import Limits
from monitor.intake.reading import Instance, read_bytes, read_instance
from monitor.intake.reasons import Reason
from registry.errors import UnreadableScanError

KEYWORDS = (
    reading.IDENTIFYING
    + reading.DESCRIBING
    + reading.ACQUISITION_MEASURES
    + reading.ACQUISITION_COUNTS
    + reading.IMAGE
)
# Bundled with pydicom: four native syntaxes, undefined lengths, private and
# unknown sequences, odd VRs, character sets, reports.
BUNDLED = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "ExplVR_BigEndNoMeta.dcm",
    "ExplVR_LitEndNoMeta.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_padded.dcm",
    "SC_rgb_small_odd.dcm",
    "UN_sequence.dcm",
    "badVR.dcm",
    "empty_charset_LEI.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "priv_SQ.dcm",
    "reportsi_with_empty_number_tags.dcm",
    "rtdose_expb.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "test-SR.dcm",
)


def refused(content: bytes, limits: Limits = reading.DEFAULT_LIMITS) -> UnreadableScanError:
    with pytest.raises(UnreadableScanError) as caught:
        read_instance(content, limits)
    return caught.value


def ours(instance: Instance, keyword: str, vr: str, *, signed: bool) -> tuple[Any, ...]:
    if vr in {"US", "SS", "US or SS"}:
        return instance.integers(keyword, signed=signed)
    if vr in {"DS", "IS"}:
        return instance.numbers(keyword)
    return tuple(value for value in instance.texts(keyword))


def theirs(value: Any, vr: str, multiplicity: int) -> tuple[Any, ...]:
    values = tuple(value) if multiplicity > 1 else (value,)
    if vr in {"DS", "IS"}:
        return tuple(float(each) for each in values)
    if vr in {"US", "SS", "US or SS"}:
        return values
    return tuple(str(each).strip() for each in values if str(each).strip())


@pytest.mark.parametrize("name", BUNDLED)
def test_every_listed_value_is_the_one_that_pydicom_reads(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    instance = read_instance(read_bytes(Path(path)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        assert {keyword for keyword in KEYWORDS if keyword in ds} == {
            keyword for keyword in KEYWORDS if keyword in instance
        }
        for keyword in KEYWORDS:
            if keyword not in instance or keyword.endswith(("Data", "Sequence")):
                continue
            element = ds[keyword]
            if element.is_empty or (name, keyword) == ("badVR.dcm", "NumberOfFrames"):
                continue  # "1A" is no number: pydicom passes it on as text
            signed = ds.get("PixelRepresentation") == 1
            assert ours(instance, keyword, element.VR, signed=signed) == theirs(
                element.value, element.VR, element.VM
            ), keyword
        if "PixelData" in ds and not ds["PixelData"].is_undefined_length:
            assert bytes(instance.elements["PixelData"].value) == ds.PixelData


@pytest.mark.parametrize("transfer_syntax", NATIVE)
def test_a_radiograph_reads_alike_in_every_native_transfer_syntax(transfer_syntax: str) -> None:
    instance = read_instance(in_native_syntax(transfer_syntax))
    assert instance.transfer_syntax == transfer_syntax
    assert instance.text("PatientID") == "4711-0815"
    assert instance.integers("Rows") == (12,)
    assert instance.texts("SoftwareVersions") == ("5.7",)


def test_text_is_read_in_its_specific_character_set() -> None:
    ds = radiograph(SpecificCharacterSet="ISO_IR 192", PatientID="Bäcker-7")
    assert read_instance(as_file(ds)).text("PatientID") == "Bäcker-7"
    ds = radiograph(SpecificCharacterSet="ISO_IR 100", PatientID="Bäcker-7")
    assert read_instance(as_file(ds)).text("PatientID") == "Bäcker-7"


def test_an_unknown_character_set_is_no_obstacle() -> None:
    content = as_file(radiograph(SpecificCharacterSet="ISO_IR 100"))
    assert read_instance(content.replace(b"ISO_IR 100", b"ISO_IR 999")).text("PatientID")


def test_an_instance_has_no_text_form_that_shows_a_value() -> None:
    instance = read_instance(as_file(radiograph()))
    assert "Yamada" not in repr(instance)
    assert "4711" not in repr(instance)


def test_what_is_not_listed_is_not_held() -> None:
    ds = radiograph(InstitutionName="North Hospital", PatientAddress="1 Main Street")
    instance = read_instance(as_file(ds))
    assert "InstitutionName" not in instance
    assert "PatientAddress" not in instance


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("1.dcm", content)
    return stream.getvalue()


CMS = bytes.fromhex("3082100006092a864886f70d010703") + bytes(200)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.NOT_DICOM),
        (b"hello, this is no scan", Reason.NOT_DICOM),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), Reason.NOT_DICOM),
        (zipped(b"x"), Reason.ARCHIVE),
        (gzip.compress(b"x"), Reason.ARCHIVE),
        (CMS, Reason.ENCRYPTED),
        (bytes(128) + b"DICM", Reason.TRUNCATED),
    ],
    ids=["empty", "text", "png", "zip", "gzip", "cms", "prefix only"],
)
def test_other_formats_are_told_apart(content: bytes, reason: Reason) -> None:
    assert refused(content).reason == reason


def test_a_file_cut_at_any_byte_is_refused_or_misses_its_end() -> None:
    content = as_file(radiograph())
    for length in range(len(content)):
        # Cut between two elements, nothing shows but what is missing.
        assert reason_or_instance(content[:length]) in {
            Reason.TRUNCATED,
            Reason.NOT_DICOM,
            "no pixels",
        }


def reason_or_instance(content: bytes) -> str:
    try:
        instance = read_instance(content)
    except UnreadableScanError as error:
        return error.reason
    return "pixels" if "PixelData" in instance else "no pixels"


@settings(deadline=None, derandomize=True)
@given(content=st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for start in (b"", bytes(128) + b"DICM", b"\x08\x00\x05\x00CS"):
        try:
            read_instance(start + content)
        except UnreadableScanError:
            continue


def deflated(data_set: bytes) -> bytes:
    ds = radiograph()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    # The data set of an ordinary file is cut off, and another put in its place.
    content = as_file(ds)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = 132 + 12 + struct.unpack_from("<L", content, 140)[0]
    return content[:start] + compressor.compress(data_set) + compressor.flush()


def test_a_deflate_bomb_is_refused_before_it_goes_off() -> None:
    bomb = deflated(bytes(64 << 20))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        error = refused(bomb, Limits(inflated_bytes=1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert error.reason == Reason.TOO_LARGE
    assert "1048576" in error.detail


def test_a_deflated_data_set_cut_short_is_truncated() -> None:
    content = in_native_syntax(DeflatedExplicitVRLittleEndian)
    assert refused(content[:-20]).reason == Reason.TRUNCATED


def test_a_damaged_deflated_data_set_is_malformed() -> None:
    content = in_native_syntax(DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<L", content, 140)[0]
    assert refused(content[:start] + b"\xff" * 50).reason == Reason.MALFORMED


def nested(depth: int) -> bytes:
    """Return a file whose sequences, all of undefined length, are nested."""
    content = as_file(radiograph())
    start = content.index(struct.pack("<HH", 0x0010, 0x0010))
    opening = struct.pack("<HH2sHL", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return content[:start] + opening * depth + closing * depth + content[start:]


def test_nesting_up_to_the_limit_is_stepped_over() -> None:
    instance = read_instance(nested(60))
    assert instance.text("PatientID") == "4711-0815"
    assert "PixelData" in instance


@pytest.mark.parametrize("depth", [65, 20_000])
def test_deeper_nesting_is_refused(depth: int) -> None:
    assert refused(nested(depth)).reason == Reason.TOO_DEEP


def test_more_elements_than_the_limit_are_refused_in_time() -> None:
    content = as_file(radiograph())
    start = content.index(struct.pack("<HH", 0x0010, 0x0010))
    many = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 300_000
    began = time.monotonic()
    error = refused(content[:start] + many + content[start:], Limits(elements=200_000))
    assert error.reason == Reason.TOO_LARGE
    assert time.monotonic() - began < 5


def test_a_listed_element_beyond_the_limit_is_refused_and_an_unlisted_one_skipped() -> None:
    ds = radiograph()
    ds.add_new(0x00091001, "OB", bytes(4000))
    assert read_instance(as_file(ds), Limits(element_bytes=1000)).text("PatientID")
    ds = radiograph()
    ds.add_new("RedPaletteColorLookupTableData", "OW", bytes(2000))
    error = refused(as_file(ds), Limits(element_bytes=1000))
    assert error.reason == Reason.TOO_LARGE
    assert "(0028,1201)" in error.detail


def test_a_length_that_lies_is_truncation_not_allocation() -> None:
    content = bytearray(as_file(radiograph()))
    position = content.index(struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OW", 0))
    struct.pack_into("<L", content, position + 8, 0xFFFFFFF0)
    error = refused(bytes(content))
    assert error.reason == Reason.TRUNCATED
    assert str(0xFFFFFFF0) in error.detail


def test_look_up_tables_in_sequences_are_read() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "OW", struct.pack("<4H", 0, 10, 20, 65535))
    item.LUTExplanation = "made for Yamada"
    ds = radiograph(ModalityLUTSequence=Sequence([item]))
    for undefined in (False, True):
        ds["ModalityLUTSequence"].is_undefined_length = undefined
        item.is_undefined_length_sequence_item = undefined
        ((descriptor, words),) = read_instance(as_file(ds)).luts("ModalityLUTSequence")
        assert descriptor == (4, 0, 16)
        assert words == struct.pack("<4H", 0, 10, 20, 65535)


def test_a_file_without_preamble_is_read() -> None:
    content = as_file(radiograph())
    assert read_instance(content[132:]).text("PatientID") == "4711-0815"


def test_implicit_data_under_an_explicit_transfer_syntax_are_read() -> None:
    implicit = in_native_syntax("1.2.840.10008.1.2")
    announced = in_native_syntax(ExplicitVRLittleEndian)
    starts = [
        132 + 12 + struct.unpack_from("<L", content, 140)[0]
        for content in (implicit, announced)
    ]
    mixed = announced[: starts[1]] + implicit[starts[0] :]
    assert read_instance(mixed).text("PatientID") == "4711-0815"


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that would not fit in memory
    with pytest.raises(UnreadableScanError) as caught:
        read_bytes(path)
    assert caught.value.reason == Reason.TOO_LARGE


def test_a_named_pipe_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "absent"):
        with pytest.raises(UnreadableScanError) as caught:
            read_bytes(path)
        assert caught.value.reason == Reason.NOT_READABLE


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1"):
        Limits(depth=0)
