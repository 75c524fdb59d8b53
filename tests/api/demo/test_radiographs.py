from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from api.demo.acquisition import NEW_SOFTWARE, OLD_SOFTWARE
from api.demo.radiographs import CHILD_SIDE, write_adult, write_child
from api.demo.sample import Adult, Child
from monitor.imaging.pixels import decode
from monitor.imaging.pixels import prepare as prepare_pixels
from monitor.intake.decoding import DecodingProcess
from monitor.intake.folder import files_in
from monitor.intake.intake import Accepted, prepare
from monitor.intake.keys import create_key
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Unit

AT = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)

# What PS3.3 A.2 asks of a CR image, type 1 (with a value) and type 2 (there,
# empty where it is not known), by module.
REQUIRED = {
    "patient C.7.1.1": "",
    "general study C.7.2.1": "StudyInstanceUID",
    "general series C.7.3.1": "Modality SeriesInstanceUID",
    "general image C.7.6.1": "ImageType PatientOrientation",
    "image pixel C.7.6.3": (
        "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored "
        "HighBit PixelRepresentation PixelData"
    ),
    "CR image C.8.1.2": "PhotometricInterpretation",
    "VOI LUT C.11.2": "WindowCenter WindowWidth",
    "SOP common C.12.1": "SOPClassUID SOPInstanceUID SpecificCharacterSet",
}
REQUIRED_MAYBE_EMPTY = {
    "patient C.7.1.1": "PatientName PatientID PatientBirthDate PatientSex",
    "general study C.7.2.1": (
        "StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber"
    ),
    "general series C.7.3.1": "SeriesNumber",
    "CR series C.8.1.1": "BodyPartExamined ViewPosition",
    "general equipment C.7.5.1": "Manufacturer",
    "general image C.7.6.1": "InstanceNumber",
}
REQUIRED_META = (
    "FileMetaInformationGroupLength FileMetaInformationVersion MediaStorageSOPClassUID "
    "MediaStorageSOPInstanceUID TransferSyntaxUID ImplementationClassUID"
)


def child(index: int = 7) -> Child:
    pixels = np.random.default_rng(index).integers(0, 256, (28, 28), dtype=np.uint8)
    return Child(index=index, pixels=pixels, pneumonia=1)


def adult(index: int = 3, patient: int = 234) -> Adult:
    pixels = np.random.default_rng(index).integers(0, 256, (64, 64), dtype=np.uint8)
    return Adult(index=index, pixels=pixels, patient=patient, age_years=52, sex="F", view="PA")


@pytest.fixture(params=["child", "updated child", "adult"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "scan.dcm"
    match request.param:
        case "child":
            write_child(path, child(), software=OLD_SOFTWARE, taken_at=AT)
        case "updated child":
            write_child(path, child(), software=NEW_SOFTWARE, taken_at=AT)
        case _:
            write_adult(path, adult(), taken_at=AT)
    return path


def read(path: Path) -> Dataset:
    return pydicom.dcmread(path)


def test_a_file_has_the_whole_file_meta_information(written: Path) -> None:
    ds = read(written)
    assert all(ds.file_meta.get(keyword) for keyword in REQUIRED_META.split())
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    assert ds.SOPClassUID.name == "Computed Radiography Image Storage"
    assert ds.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    assert written.read_bytes()[:132] == bytes(128) + b"DICM"


def test_a_file_has_what_the_standard_requires_of_a_cr_image(written: Path) -> None:
    ds = read(written)
    for module, keywords in REQUIRED.items():
        for keyword in keywords.split():
            assert keyword in ds, (module, keyword)
            assert ds[keyword].value not in (None, ""), (module, keyword)
    for module, keywords in REQUIRED_MAYBE_EMPTY.items():
        for keyword in keywords.split():
            assert keyword in ds, (module, keyword)


def test_every_value_is_valid_for_its_representation(written: Path) -> None:
    ds = read(written)
    for element in (*ds.file_meta, *ds):
        DataElement(
            element.tag, element.VR, element.value, validation_mode=config.RAISE
        )  # raises where it is not
    assert all(value.is_valid for value in ds.values() if hasattr(value, "is_valid"))
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert ds[keyword].value.is_valid
        assert ds[keyword].value.startswith("2.25.")


def test_pixels_are_twelve_bits_in_sixteen(written: Path) -> None:
    ds = read(written)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 12, 11)
    assert ds.PixelRepresentation == 0
    assert ds.PhotometricInterpretation == "MONOCHROME2"
    assert len(ds.PixelData) == 2 * ds.Rows * ds.Columns
    assert ds.pixel_array.max() <= 4095
    assert ds.BurnedInAnnotation == "NO"


def test_a_childs_age_and_sex_are_not_made_up(tmp_path: Path) -> None:
    write_child(tmp_path / "a.dcm", child(), software=OLD_SOFTWARE, taken_at=AT)
    ds = read(tmp_path / "a.dcm")
    assert "PatientAge" not in ds
    assert ds.PatientSex == ""
    assert ds.PatientBirthDate == ""


def test_an_adults_age_sex_and_view_are_the_sources(tmp_path: Path) -> None:
    write_adult(tmp_path / "a.dcm", adult(), taken_at=AT)
    ds = read(tmp_path / "a.dcm")
    assert (ds.PatientAge, ds.PatientSex, ds.ViewPosition) == ("052Y", "F", "PA")


def test_a_file_carries_what_intake_has_to_remove(written: Path) -> None:
    ds = read(written)
    for keyword in ("PatientName", "ReferringPhysicianName", "InstitutionName", "StudyDate"):
        assert ds[keyword].value


def test_the_software_version_is_the_one_that_processed_the_pixels(tmp_path: Path) -> None:
    for software in (OLD_SOFTWARE, NEW_SOFTWARE):
        path = tmp_path / f"{software.version}.dcm"
        write_child(path, child(), software=software, taken_at=AT)
        assert read(path).SoftwareVersions == software.version
    old, new = (read(tmp_path / f"{s.version}.dcm") for s in (OLD_SOFTWARE, NEW_SOFTWARE))
    assert not np.array_equal(old.pixel_array, new.pixel_array)
    assert old.PatientID == new.PatientID
    assert old.SOPInstanceUID != new.SOPInstanceUID


def test_the_same_radiograph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        write_child(tmp_path / name, child(), software=NEW_SOFTWARE, taken_at=AT)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_other_radiographs_and_times_give_other_uids(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    times = (AT, AT + timedelta(days=1))
    uids = [
        write_child(path, child(index), software=OLD_SOFTWARE, taken_at=at)
        for index in range(5)
        for at in times
    ]
    uids += [write_adult(path, adult(index), taken_at=AT) for index in range(5)]
    assert len(set(uids)) == len(uids)


def test_scans_of_one_adult_are_of_one_patient(tmp_path: Path) -> None:
    for index in (1, 2):
        write_adult(tmp_path / f"{index}.dcm", adult(index), taken_at=AT)
    one, two = read(tmp_path / "1.dcm"), read(tmp_path / "2.dcm")
    assert one.PatientID == two.PatientID
    assert one.PatientName == two.PatientName
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_the_returned_uid_is_the_files(tmp_path: Path) -> None:
    uid = write_child(tmp_path / "a.dcm", child(), software=OLD_SOFTWARE, taken_at=AT)
    assert read(tmp_path / "a.dcm").SOPInstanceUID == uid


def test_the_time_is_stated_with_its_zone(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=8))
    write_child(
        tmp_path / "a.dcm",
        child(),
        software=OLD_SOFTWARE,
        taken_at=datetime(2026, 3, 2, 7, 5, 9, tzinfo=zone),
    )
    ds = read(tmp_path / "a.dcm")
    assert (ds.StudyDate, ds.StudyTime) == ("20260302", "070509")
    assert ds.TimezoneOffsetFromUTC == "+0800"


def test_a_time_without_a_zone_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        write_adult(tmp_path / "a.dcm", adult(), taken_at=AT.replace(tzinfo=None))
    assert list(tmp_path.iterdir()) == []


def test_no_unfinished_file_is_left_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "a.dcm"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"."):
        write_adult(target, adult(), taken_at=AT)
    assert list(tmp_path.iterdir()) == [target]
    assert list(files_in([tmp_path])) == []


def test_old_software_keeps_the_sources_pixels_to_what_scaling_allows(tmp_path: Path) -> None:
    write_child(tmp_path / "a.dcm", smooth_child(), software=OLD_SOFTWARE, taken_at=AT)
    ds = read(tmp_path / "a.dcm")
    assert (ds.Rows, ds.Columns) == (CHILD_SIDE, CHILD_SIDE)
    back = ds.pixel_array.reshape(28, 4, 28, 4).mean(axis=(1, 3)) / 4095 * 255
    assert np.abs(back - smooth_child().pixels).max() < 3


def smooth_child() -> Child:
    x = np.linspace(0, np.pi, 28)
    pixels = (40 + 180 * np.outer(np.sin(x), np.sin(x))).astype(np.uint8)
    return Child(index=1, pixels=pixels, pneumonia=0)


def test_an_encoder_sees_an_adults_pixels_as_the_source_has_them(tmp_path: Path) -> None:
    write_adult(tmp_path / "a.dcm", adult(), taken_at=AT)
    seen = prepare_pixels(
        decode(read(tmp_path / "a.dcm")),
        Preprocessing(
            unit=Unit.INSTANCE,
            window=DicomWindow(),
            size=(64, 64),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
    )
    half_a_step = 0.5 / 4095
    assert np.abs(seen[0] - adult().pixels / 255).max() <= half_a_step * 1.01


def test_intake_accepts_a_file_and_keeps_what_detection_needs(
    written: Path, tmp_path: Path
) -> None:
    scan = prepare(
        written, site="demo", key=create_key(tmp_path / "key"), decoder=DecodingProcess()
    )
    assert isinstance(scan, Accepted)
    ds, found = read(written), scan.attributes
    assert found.modality == "CR"
    assert found.body_part == "CHEST"
    assert found.view == ds.ViewPosition
    assert found.software_version == ds.SoftwareVersions
    assert found.manufacturer == ds.Manufacturer
    assert found.scanner_model == ds.ManufacturerModelName
    assert found.protocol == ds.ProtocolName
    assert found.age_years == (52 if "PatientAge" in ds else None)
    for keyword in ("PatientName", "PatientID", "InstitutionName", "AccessionNumber"):
        assert str(ds[keyword].value).encode() not in scan.content


def test_hundreds_are_written_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    for index in range(200):
        path = tmp_path / f"{index}.dcm"
        write_child(path, child(index), software=NEW_SOFTWARE, taken_at=AT)
    # Some 5 ms each; processor time, since others may use the machine as well.
    assert time.process_time() - started < 4
