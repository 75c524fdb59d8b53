"""One instance is one by whatever road it comes; another image never is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from dicom_instances import NATIVE, as_file, gradient, in_native_syntax, radiograph, set_frames
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import EncapsulatedPDFStorage, JPEG2000Lossless

from monitor.intake.fingerprints import fingerprint
from monitor.intake.writing import ElementWriter, file_of

BURNED = {"BurnedInAnnotation": "YES"}


def of(**elements: Any) -> bytes:
    return fingerprint(as_file(radiograph(**BURNED, **elements)))


def by_network(content: bytes) -> bytes:
    """Return a file as the DICOM port makes it of the data set that came."""
    ds = dcmread(io.BytesIO(content))
    syntax = ds.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    stream_ds = Dataset(ds)
    stream_ds.save_as(
        stream, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    meta = ElementWriter()
    meta.put_text("MediaStorageSOPClassUID", ds.SOPClassUID)
    meta.put_text("TransferSyntaxUID", syntax)
    return file_of(meta, ElementWriter()) + stream.getvalue()


@pytest.mark.parametrize("transfer_syntax", NATIVE)
def test_a_native_transfer_syntax_changes_nothing(transfer_syntax: str) -> None:
    assert fingerprint(in_native_syntax(transfer_syntax)) == fingerprint(as_file(radiograph()))


def test_preamble_meta_information_and_what_else_is_said_change_nothing() -> None:
    plain = of()
    assert fingerprint(by_network(as_file(radiograph(**BURNED)))) == plain
    assert fingerprint(as_file(radiograph(**BURNED), preamble=b"x" * 128)) == plain
    item = Dataset()
    item.CodeValue = "1"
    assert of(PatientID="2", ProcedureCodeSequence=Sequence([item])) == plain


def test_another_instance_is_another() -> None:
    assert of(SOPInstanceUID="1.2.3") != of()


def test_another_image_is_another() -> None:
    other = gradient()
    other[0, 0] += 1
    assert fingerprint(as_file(radiograph(other, **BURNED))) != of()


@pytest.mark.parametrize(
    "elements",
    [
        {"BitsStored": 16, "HighBit": 15},
        {"HighBit": 15},
        {"PixelRepresentation": 1},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"Rows": 32, "Columns": 128},
    ],
    ids=str,
)
def test_other_bits_of_the_same_bytes_are_another_image(elements: dict[str, Any]) -> None:
    assert of(**elements) != of()


def test_another_palette_makes_another_image() -> None:
    def with_palette(first: int) -> bytes:
        ds = radiograph(**BURNED)
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for color in ("Red", "Green", "Blue"):
            table = np.arange(4096, dtype="<u2")
            table[0] = first
            setattr(ds, f"{color}PaletteColorLookupTableDescriptor", [4096, 0, 16])
            ds.add_new(f"{color}PaletteColorLookupTableData", "OW", table.tobytes())
        return fingerprint(as_file(ds))

    assert with_palette(0) == with_palette(0)
    assert with_palette(0) != with_palette(1)


def test_how_a_frame_is_cut_into_fragments_changes_nothing() -> None:
    def cut(pieces: int) -> bytes:
        ds = radiograph(**BURNED)
        set_frames(ds, b"\xff\x4f" + bytes(range(254)), transfer_syntax=JPEG2000Lossless)
        frame = b"\xff\x4f" + bytes(range(254))
        ds.PixelData = encapsulate([frame], fragments_per_frame=pieces)
        return fingerprint(as_file(ds))

    assert cut(1) == cut(4)


def test_a_document_is_told_apart_by_its_identifier() -> None:
    def pdf(uid: str, title: str) -> bytes:
        ds = radiograph(SOPClassUID=EncapsulatedPDFStorage, SOPInstanceUID=uid)
        del ds.PixelData
        ds.DocumentTitle = title
        return fingerprint(as_file(ds))

    assert pdf("1.2.3", "a") == pdf("1.2.3", "b")
    assert pdf("1.2.3", "a") != pdf("1.2.4", "a")


def test_what_is_no_instance_is_told_apart_by_its_bytes() -> None:
    assert fingerprint(b"a letter") == fingerprint(b"a letter")
    assert fingerprint(b"a letter") != fingerprint(b"another")
    nameless = as_file(radiograph(SOPInstanceUID=None))
    assert fingerprint(nameless) != fingerprint(
        as_file(radiograph(SOPInstanceUID=None, Rows=1))
    )
    cut = as_file(radiograph())[:-60]
    assert fingerprint(cut) != fingerprint(as_file(radiograph()))
    assert fingerprint(cut) == fingerprint(b"x" * 128 + cut[128:])
    assert fingerprint(b"") == fingerprint(b"")
