from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import canaries
from dicom_instances import KEY, NATIVE, SITE, as_file, in_native_syntax, radiograph
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from api.demo.acquisition import NEW_SOFTWARE, OLD_SOFTWARE
from api.demo.radiographs import write_child
from api.demo.sample import load_sample
from monitor.intake.allowed import ALLOWED, ALLOWED_IN_META, ALLOWED_IN_TABLES
from monitor.intake.decoding import DecodingProcess
from monitor.intake.intake import Accepted, prepare_bytes
from monitor.intake.quarantine import Quarantine
from monitor.intake.vault import Vault
from monitor.intake.verifying import Fault, Finding, faults_of, verify_files
from monitor.scans import ScanIntake
from registry.clock import ReplayClock
from registry.database import Database

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
DECODER = DecodingProcess()


def stored(content: bytes) -> bytes:
    prepared = prepare_bytes(content, site=SITE, key=KEY, decoder=DECODER)
    assert isinstance(prepared, Accepted), prepared
    return prepared.content


STORED = stored(as_file(radiograph()))


def lut(ds: Dataset) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    item.LUTExplanation = "Yamada"
    ds.ModalityLUTSequence = Sequence([item])


def palette(ds: Dataset) -> None:
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for color in ("Red", "Green", "Blue"):
        setattr(ds, f"{color}PaletteColorLookupTableDescriptor", [4096, 0, 16])
        data = np.arange(4096, dtype="<u2").tobytes()
        ds.add_new(f"{color}PaletteColorLookupTableData", "OW", data)


ODD: dict[str, dict[str, Any]] = {
    "numbers at their ends": {
        "PixelSpacing": [0.000123456789, 1e6],
        "KVP": "120.00000001",
        "WindowCenter": "-1024.123456789",
        "WindowWidth": "1e-7",
        "InstanceNumber": "-3",
        "RescaleSlope": "0.00012345678",
        "RescaleIntercept": "-1024",
    },
    "texts on no list": {
        "Manufacturer": "Yamada GmbH",
        "ManufacturerModelName": "x" * 64,
        "SoftwareVersions": ["1.2", "Yamada"],
        "ProtocolName": "Yamada, chest",
        "BodyPartExamined": "YAMADA",
        "ViewPosition": "YAMADA",
        "Modality": "YAMADA",
        "PatientSex": "YAMADA",
    },
    "nothing stated": dict.fromkeys(
        (
            "Manufacturer",
            "ManufacturerModelName",
            "SoftwareVersions",
            "ProtocolName",
            "StationName",
            "BodyPartExamined",
            "ViewPosition",
            "PatientSex",
            "PatientBirthDate",
        )
    ),
    "an old patient": {"PatientAge": "112Y"},
    "a statement": {"BurnedInAnnotation": "NO", "LossyImageCompression": "01"},
    "padding": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 7},
    "a picture's function": {"VOILUTFunction": "SIGMOID"},
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_stored_of_an_odd_instance_is_allowed(kind: str) -> None:
    assert faults_of(stored(as_file(radiograph(**ODD[kind])))) == []


@pytest.mark.parametrize("change", [lut, palette])
def test_what_is_stored_of_look_up_tables_is_allowed(change: Callable[[Dataset], None]) -> None:
    ds = radiograph()
    change(ds)
    assert faults_of(stored(as_file(ds))) == []


@pytest.mark.parametrize("transfer_syntax", NATIVE)
def test_what_is_stored_of_every_native_syntax_is_allowed(transfer_syntax: str) -> None:
    assert faults_of(stored(in_native_syntax(transfer_syntax))) == []


@pytest.mark.parametrize("kind", canaries())
def test_what_is_stored_of_a_canary_is_allowed_and_the_canary_is_not(kind: str) -> None:
    content = canaries()[kind]
    assert faults_of(content) != []
    prepared = prepare_bytes(content, site=SITE, key=KEY, decoder=DECODER)
    if isinstance(prepared, Accepted):
        assert faults_of(prepared.content) == []


@pytest.mark.parametrize("software", [OLD_SOFTWARE, NEW_SOFTWARE], ids=["old", "new"])
def test_what_is_stored_of_the_sample_is_allowed(
    tmp_path: Path, now: datetime, software: Any
) -> None:
    for child in load_sample().children[:25]:
        path = tmp_path / "1.dcm"
        write_child(path, child, software=software, taken_at=now)
        assert faults_of(stored(path.read_bytes())) == []


def changed(**elements: Any) -> bytes:
    """Return the stored file as somebody's mistake would write it."""
    ds = dcmread(io.BytesIO(STORED))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    stream = io.BytesIO()
    ds.save_as(stream)
    return stream.getvalue()


def test_a_file_as_it_was_is_without_fault() -> None:
    assert faults_of(STORED) == []
    assert faults_of(changed()) == []


WRONG: dict[str, tuple[str, Any]] = {
    "a name": ("PatientName", "Yamada^Hanako"),
    "a date": ("StudyDate", "20260302"),
    "an identifier": ("PatientID", "4711"),
    "a UID of the sender": ("StudyInstanceUID", "1.2.826.0.1.3680043.8.498.2"),
    "a UID in the meaning of a class": ("SOPClassUID", "2.25.1"),
    "an age beyond 90": ("PatientAge", "091Y"),
    "an age in days": ("PatientAge", "012D"),
    "a station": ("StationName", "ROOM3"),
    "a token of another kind": ("StationName", "protocol-0123abcd"),
    "a protocol": ("ProtocolName", "Yamada, chest"),
    "a maker": ("Manufacturer", "Yamada GmbH"),
    "two versions": ("SoftwareVersions", ["5.7", "5.8"]),
    "a body part": ("BodyPartExamined", "YAMADA"),
    "a long number": ("InstanceNumber", "198205061234"),
    "a number of many digits": ("KVP", "19820506.125"),
    "burned-in text": ("BurnedInAnnotation", "YES"),
    "another method": ("DeidentificationMethod", "by hand"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_value_that_is_not_allowed_is_found(kind: str) -> None:
    keyword, value = WRONG[kind]
    assert faults_of(changed(**{keyword: value})) == [Fault(keyword, Finding.VALUE)]


def test_an_element_that_is_on_no_list_is_found() -> None:
    found = faults_of(changed(InstitutionName="St. Yamada", PatientComments="tall"))
    assert found == [
        Fault("InstitutionName", Finding.NOT_ALLOWED),
        Fault("PatientComments", Finding.NOT_ALLOWED),
    ]


def test_private_elements_and_nested_ones_are_found() -> None:
    ds = dcmread(io.BytesIO(STORED))
    ds.private_block(0x0011, "YAMADA", create=True).add_new(1, "LO", "Yamada")
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1, 0, 16])
    item.LUTExplanation = "Yamada"
    ds.VOILUTSequence = Sequence([item])
    stream = io.BytesIO()
    ds.save_as(stream)
    found = faults_of(stream.getvalue())
    assert {fault.finding for fault in found} == {Finding.PRIVATE, Finding.NOT_ALLOWED}
    assert Fault("LUTExplanation", Finding.NOT_ALLOWED) in found


def test_what_stands_before_and_after_the_data_set_is_found() -> None:
    assert faults_of(b"Yamada" + STORED[6:]) == [Fault("", Finding.PREAMBLE)]
    assert faults_of(STORED + b"Yamada") != []
    assert faults_of(bytes(128) + b"Yamada") == [Fault("", Finding.UNREADABLE)]
    compressed = stored(canaries()["compressed as JPEG"])
    assert faults_of(compressed + b"Yamada") != []


def test_every_element_that_is_allowed_is_known_to_the_standard_and_explained() -> None:
    for rules in (ALLOWED, ALLOWED_IN_META, ALLOWED_IN_TABLES):
        for keyword, rule in rules.items():
            assert tag_for_keyword(keyword) is not None
            assert rule.kept
            assert rule.profile


class Stored:
    """Four stored scans."""

    def __init__(self, folder: Path, database: Database, now: datetime) -> None:
        (folder / "quarantine").mkdir(mode=0o700)
        self.database, self.vault = database, Vault(folder / "vault")
        quarantine = Quarantine(folder / "quarantine", key=KEY)
        intake = ScanIntake(database, self.vault, quarantine, KEY, ReplayClock(now))
        intake.take(
            [
                intake.prepare(
                    as_file(radiograph(SOPInstanceUID=f"1.2.{number}")), site="north"
                )
                for number in range(4)
            ]
        )
        self.files = sorted((folder / "vault").rglob("*.dcm"))


@pytest.fixture
def four(tmp_path: Path, database: Database, now: datetime) -> Stored:
    return Stored(tmp_path, database, now)


def test_all_stored_files_are_looked_at_or_a_sample_of_them(four: Stored) -> None:
    told: list[tuple[int, int]] = []
    found = verify_files(
        four.database, four.vault, tell=lambda done, total: told.append((done, total))
    )
    assert (found.checked, found.clean, told) == (4, True, [(4, 4)])
    assert verify_files(four.database, four.vault, sample=3).checked == 3


def test_what_is_gone_or_damaged_is_told_apart(four: Stored) -> None:
    four.files[0].unlink()
    four.files[1].write_bytes(STORED[:-2])
    found = verify_files(four.database, four.vault)
    assert (found.checked, found.gone, len(found.damaged)) == (2, 1, 1)
    assert not found.clean
