from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from monitor.intake.writing import ElementWriter, file_of


def meta(transfer_syntax: str = ExplicitVRLittleEndian) -> ElementWriter:
    writer = ElementWriter()
    writer.put_text("MediaStorageSOPClassUID", "1.2.840.10008.5.1.4.1.1.1")
    writer.put_text("MediaStorageSOPInstanceUID", "2.25.1")
    writer.put_text("TransferSyntaxUID", transfer_syntax)
    return writer


def read(
    data_set: ElementWriter, transfer_syntax: str = ExplicitVRLittleEndian
) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(file_of(meta(transfer_syntax), data_set)))


def test_what_is_written_is_what_pydicom_reads() -> None:
    writer = ElementWriter()
    writer.put_text("StationName", "odd")
    writer.put_text("PixelSpacing", "0.1", "0.25")
    writer.put_text("SOPInstanceUID", "2.25.123")
    writer.put_text("PatientName", "")
    writer.put_integers("Rows", (512,))
    writer.put_integers("PixelPaddingValue", (-2000,), signed=True)
    writer.put_bytes("PixelData", b"\1\2\3", vr="OB")
    item = ElementWriter()
    item.put_integers("LUTDescriptor", (2, 0, 16))
    item.put_bytes("LUTData", np.array([1, 2], dtype="<u2").tobytes(), vr="OW")
    writer.put_item("VOILUTSequence", item)
    ds = read(writer)
    assert ds.preamble == bytes(128)
    assert ds.StationName == "odd"
    assert list(ds.PixelSpacing) == [0.1, 0.25]
    assert ds.SOPInstanceUID == "2.25.123"
    assert ds.PatientName == ""
    assert ds.Rows == 512
    assert ds.PixelPaddingValue == -2000
    assert ds.PixelData == b"\1\2\3\0"
    assert list(ds.VOILUTSequence[0].LUTDescriptor) == [2, 0, 16]
    assert ds.VOILUTSequence[0].LUTData == b"\1\0\2\0"
    assert [element.tag for element in ds] == sorted(element.tag for element in ds)


def test_pydicom_writes_the_same_bytes() -> None:
    writer = ElementWriter()
    writer.put_text("Modality", "CR")
    writer.put_text("SOPInstanceUID", "2.25.1")
    writer.put_integers("Rows", (7,))
    content = file_of(meta(), writer)
    ds = pydicom.dcmread(io.BytesIO(content))
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds)
    assert stream.getvalue() == content


@pytest.mark.parametrize("frame", [b"even", b"odd"])
def test_a_frame_is_encapsulated(frame: bytes) -> None:
    writer = ElementWriter()
    writer.put_frames([frame])
    ds = read(writer, RLELossless)
    (read_frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    assert read_frame.rstrip(b"\0") == frame
    assert len(read_frame) % 2 == 0


def test_text_beyond_ascii_is_a_mistake_that_shows() -> None:
    with pytest.raises(UnicodeEncodeError):
        ElementWriter().put_text("Manufacturer", "Müller")
