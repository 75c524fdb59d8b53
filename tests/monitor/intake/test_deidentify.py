from __future__ import annotations

import io
import logging
import warnings
from typing import Any

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
    set_pixels,
)
from PIL import Image as PillowImage
from pydicom.datadict import DicomDictionary, dictionary_is_retired, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)

from monitor.intake.deidentify import METHOD, DeidentifiedScan, deidentify
from monitor.intake.limits import Limits
from monitor.intake.reading import read_instance
from monitor.intake.reasons import Reason
from registry.errors import UnreadableScanError

CANARY = "ZQXW"


def scan_of(content: bytes, **limits: int) -> DeidentifiedScan:
    caps = Limits(**limits)
    return deidentify(read_instance(content, caps), site=SITE, key=KEY, limits=caps)


def stored(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(scan_of(content).content))


def reason_of(content: bytes, **limits: int) -> str:
    with pytest.raises(UnreadableScanError) as caught:
        scan_of(content, **limits)
    assert not any(value in caught.value.detail for value in ("Yamada", "4711", CANARY))
    return caught.value.reason


# What must be true for the file to be taken at all; everything else is a canary.
NEEDED = {
    "SpecificCharacterSet",
    "SOPClassUID",
    "ImageType",
    "ConversionType",
    "Modality",
    "BurnedInAnnotation",
    "PhotometricInterpretation",
    "PatientAge",
    "PixelData",
}
CANARIES = {
    "DA": "19770703",
    "TM": "070307.770703",
    "DT": "19770703070307",
    "UI": "1.2.777.0703.7",
    "AS": "077Y",
    "UR": "https://zqxw.example/ZQXW",
    **dict.fromkeys(("PN", "LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE"), f"{CANARY} 7"),
    **dict.fromkeys(("OB", "UN"), b"ZQXW in bytes "),
}


def with_canaries(ds: Dataset) -> None:
    for tag, (vr, *_) in DicomDictionary.items():
        keyword = keyword_for_tag(tag)
        if vr in CANARIES and keyword not in NEEDED and tag >> 16 not in (0x0000, 0x0002):
            if dictionary_is_retired(tag) and vr == "OB":
                continue
            ds.add_new(tag, vr, CANARIES[vr])


def private_block(ds: Dataset) -> None:
    block = ds.private_block(0x0009, f"{CANARY} MAKER", create=True)
    for offset, vr in enumerate(("LO", "PN", "UN", "OB", "LT", "DA"), start=1):
        block.add_new(offset, vr, CANARIES[vr])
    inner = Dataset()
    inner.PatientName = f"{CANARY}^Inner"
    block.add_new(0x20, "SQ", Sequence([inner]))


def test_no_canary_of_any_vr_nested_or_private_is_in_anything_that_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom finds the canaries' lengths odd
        nested = Dataset()
        with_canaries(nested)
        private_block(nested)
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [2, 0, 16])
        table.add_new("LUTData", "OW", b"\0\0\xff\xff")
        with_canaries(table)
        ds = radiograph()
        with_canaries(ds)
        private_block(ds)
        ds.RequestAttributesSequence = Sequence([nested])
        ds.OriginalAttributesSequence = Sequence([nested])
        ds.VOILUTSequence = Sequence([table])
        ds.add_new(0x60000022, "LO", CANARY)  # an overlay, a repeating group
        content = as_file(ds, preamble=(CANARY * 32).encode())
    assert content.count(CANARY.encode()) > 2000
    caplog.clear()

    scan = scan_of(content)

    left = (scan.content, repr(scan.attributes).encode(), repr(scan.pseudonyms).encode())
    for needle in (b"ZQXW", b"zqxw", b"19770703", b"070307", b"1.2.777.0703"):
        assert not any(needle in text for text in left), needle
    assert not caplog.text


def test_what_names_the_patient_is_hidden_even_where_it_stands_in_a_tag_of_the_scanner() -> (
    None
):
    content = as_file(
        radiograph(
            ManufacturerModelName="DRX 4711-0815",
            SoftwareVersions="2022.07.15",
            ProtocolName="CHEST Hanako",
        )
    )
    attributes = scan_of(content).attributes
    assert attributes.scanner_model is not None
    assert attributes.scanner_model.startswith("model-")
    assert attributes.software_version is not None
    assert attributes.software_version.startswith("software-")
    assert attributes.protocol is not None
    assert attributes.protocol.startswith("protocol-")


def test_the_stored_file_is_dicom_that_says_what_was_done() -> None:
    ds = stored(as_file(radiograph(), preamble=b"\xaa" * 128))
    assert ds.preamble == bytes(128)
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.DeidentificationMethod == METHOD
    assert ds.PatientName == ""
    assert ds.StudyDate == ""
    assert ds.PatientAge == "003Y"
    assert ds.Manufacturer == "Carestream Health"
    assert ds.StationName.startswith("station-")
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
    assert ds.SOPInstanceUID.startswith("2.25.")
    assert ds.SOPInstanceUID.is_valid
    assert np.array_equal(ds.pixel_array, gradient())


def test_numbers_of_the_acquisition_are_kept_as_numbers() -> None:
    ds = stored(
        as_file(radiograph(PixelSpacing=["0.139", "0.139"], KVP="81.5", InstanceNumber="3"))
    )
    assert list(ds.PixelSpacing) == [0.139, 0.139]
    assert ds.KVP == 81.5
    assert ds.InstanceNumber == 3


def test_a_number_with_as_many_digits_as_an_identifier_is_not_kept() -> None:
    content = as_file(radiograph(InstanceNumber="47110815", KVP="47110815"))
    assert b"4711" not in scan_of(content).content


def test_every_native_transfer_syntax_gives_the_same_stored_bytes() -> None:
    scans = [scan_of(in_native_syntax(transfer_syntax)) for transfer_syntax in NATIVE]
    assert len({scan.content for scan in scans}) == 1
    assert len({scan.pixel_digest for scan in scans}) == 1


def test_meaning_of_samples_survives() -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [3, -2, 8])
    table.add_new("LUTData", "OW", np.array([0, 100, 255], dtype="<u2").tobytes())
    ds = radiograph(
        gradient().astype(np.int16) - 100,
        RescaleIntercept="-1024",
        RescaleSlope="0.5",
        WindowCenter=["40", "300"],
        WindowWidth=["400", "1500"],
        VOILUTFunction="SIGMOID",
        PixelPaddingValue=-100,
        VOILUTSequence=Sequence([table]),
    )
    ds["PixelPaddingValue"].VR = "SS"
    kept = stored(as_file(ds))
    assert (kept.RescaleIntercept, kept.RescaleSlope) == (-1024, 0.5)
    assert (kept.WindowCenter, kept.WindowWidth) == (40, 400)
    assert kept.VOILUTFunction == "SIGMOID"
    assert kept.PixelPaddingValue == -100
    assert list(kept.VOILUTSequence[0].LUTDescriptor) == [3, -2, 8]
    assert kept.VOILUTSequence[0].LUTData == table.LUTData


def test_a_padding_value_written_with_the_wrong_sign_is_the_samples() -> None:
    ds = radiograph(gradient().astype(np.int16))
    ds.add_new("PixelPaddingValue", "US", 63536)
    assert stored(as_file(ds)).PixelPaddingValue == -2000


def test_bits_that_no_sample_uses_are_cleared() -> None:
    samples = gradient()
    overlay = samples | np.uint16(0xF000)
    assert np.array_equal(stored(as_file(radiograph(overlay))).pixel_array, samples)
    assert (
        scan_of(as_file(radiograph(overlay))).content
        == scan_of(as_file(radiograph(samples))).content
    )


def test_bytes_after_the_image_are_dropped() -> None:
    ds = radiograph()
    ds.PixelData += b"ZQXW behind the image."
    assert b"ZQXW" not in scan_of(as_file(ds)).content


def jpeg(comment: bytes = b"", **changes: Any) -> bytes:
    samples = (gradient(16, 24) >> 4).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(samples).save(stream, "JPEG", comment=comment)
    ds = radiograph(samples)
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEGBaseline8Bit)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return as_file(ds)


def jpeg_2000(comment: bytes = b"", **changes: Any) -> bytes:
    samples = (gradient(16, 24) >> 4).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(samples).save(stream, "JPEG2000", no_jp2=True, comment=comment)
    ds = radiograph(samples)
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEG2000Lossless)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return as_file(ds)


@pytest.mark.parametrize("make", [jpeg, jpeg_2000])
def test_comments_inside_a_compressed_frame_go_and_its_pixels_stay(make: Any) -> None:
    commented = make(comment=b"ZQXW was here")
    assert b"ZQXW" in commented
    kept = scan_of(commented)
    assert b"ZQXW" not in kept.content
    assert np.array_equal(
        pydicom.dcmread(io.BytesIO(kept.content)).pixel_array,
        pydicom.dcmread(io.BytesIO(commented)).pixel_array,
    )


@pytest.mark.parametrize("make", [jpeg, jpeg_2000])
@pytest.mark.parametrize("changes", [{"Rows": 15}, {"Columns": 6000}])
def test_a_frame_of_another_size_than_the_header_says_is_refused(
    make: Any, changes: dict[str, int]
) -> None:
    assert reason_of(make(**changes)) == Reason.UNDECODABLE


def test_a_frame_that_is_no_codestream_is_refused() -> None:
    ds = radiograph()
    set_frames(ds, b"not a JPEG image", transfer_syntax=JPEGBaseline8Bit)
    assert reason_of(as_file(ds)) == Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, Reason.NO_PIXELS),
        ({"SOPClassUID": SegmentationStorage}, Reason.NOT_AN_IMAGE),
        ({"SOPClassUID": None}, Reason.NOT_AN_IMAGE),
        ({"NumberOfFrames": 2}, Reason.TRUNCATED),
        (
            {"SOPClassUID": CTImageStorage, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            Reason.LOCALIZER,
        ),
        (
            {"SOPClassUID": CTImageStorage, "ImageType": ["DERIVED", "SECONDARY", "MPR"]},
            Reason.DERIVED,
        ),
        ({"BurnedInAnnotation": "YES"}, Reason.BURNED_IN),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, Reason.BURNED_IN_UNKNOWN),
        ({"SOPClassUID": UltrasoundImageStorage}, Reason.BURNED_IN_UNKNOWN),
        ({"Modality": "US"}, Reason.BURNED_IN_UNKNOWN),
        ({"ConversionType": "WSD"}, Reason.BURNED_IN_UNKNOWN),
        (
            {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
            Reason.BURNED_IN_UNKNOWN,
        ),
        ({"SOPInstanceUID": None}, Reason.NO_IDENTITY),
        ({"StudyInstanceUID": None}, Reason.NO_IDENTITY),
        ({"Rows": None}, Reason.MALFORMED),
        ({"Rows": 0}, Reason.MALFORMED),
        ({"Rows": 13}, Reason.TRUNCATED),
        ({"SamplesPerPixel": 3}, Reason.MALFORMED),
        ({"PhotometricInterpretation": "CMYK"}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsAllocated": 12}, Reason.UNSUPPORTED_PIXELS),
        ({"BitsStored": 17}, Reason.UNSUPPORTED_PIXELS),
        ({"HighBit": 10}, Reason.MALFORMED),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Reason.MALFORMED),
    ],
    ids=str,
)
def test_what_is_no_scan_is_refused_with_its_reason(
    elements: dict[str, Any], reason: Reason
) -> None:
    assert reason_of(as_file(radiograph(**elements))) == reason


@pytest.mark.parametrize(
    "sop_class", [SecondaryCaptureImageStorage, UltrasoundImageStorage], ids=["SC", "US"]
)
def test_an_image_that_denies_burned_in_text_is_taken(sop_class: str) -> None:
    ds = stored(as_file(radiograph(SOPClassUID=sop_class, BurnedInAnnotation="NO")))
    assert ds.BurnedInAnnotation == "NO"


def test_a_processed_radiograph_is_a_scan_though_it_is_derived_by_name() -> None:
    assert scan_of(as_file(radiograph(ImageType=["DERIVED", "PRIMARY"])))


def test_more_samples_than_the_limit_are_refused_before_the_pixel_data_are_looked_at() -> None:
    content = as_file(radiograph(Rows=60000, Columns=60000))
    assert reason_of(content) == Reason.TOO_LARGE


def test_an_unknown_or_undecodable_transfer_syntax_is_refused() -> None:
    ds = radiograph()
    set_frames(ds, b"\0\0\0\1", transfer_syntax="1.2.840.10008.1.2.4.102")
    assert reason_of(as_file(ds)) == Reason.UNSUPPORTED_TRANSFER_SYNTAX


def test_compressed_pixels_that_do_not_say_how_are_refused() -> None:
    content = jpeg()
    assert (
        reason_of(content.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0"))
        == Reason.UNSUPPORTED_TRANSFER_SYNTAX
    )


def test_a_color_image_keeps_its_color() -> None:
    samples = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    ds = radiograph(BurnedInAnnotation="NO")
    set_pixels(ds, samples)
    kept = stored(as_file(ds))
    assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(kept.pixel_array, samples)
