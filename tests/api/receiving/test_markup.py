"""Markup and templates in every text of an instance: no page renders it, nothing repeats it."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from databases import on_sqlite
from dicom_instances import as_file, radiograph
from local_client import local_client
from pydicom.uid import ComputedRadiographyImageStorage
from running_receiver import receiving

from api.cli import main

pytestmark = on_sqlite

MARK = "zqalert"
SCRIPT = f"<script>{MARK}(1)</script>"
IMAGE = f'"><img src=x onerror={MARK}(2)>'
TEMPLATE = f"{{{{ 913 * 917 }}}}{MARK}"
_RENDERED = str(913 * 917)
TEXTS = {
    "PatientName": f"{SCRIPT}^{IMAGE}",
    "PatientID": SCRIPT,
    "IssuerOfPatientID": IMAGE,
    "PatientComments": SCRIPT,
    "OtherPatientNames": IMAGE,
    "InstitutionName": SCRIPT,
    "ReferringPhysicianName": SCRIPT,
    "StudyDescription": TEMPLATE,
    "SeriesDescription": SCRIPT,
    "AccessionNumber": f"<b>{MARK}</b>",
    "ProtocolName": SCRIPT,
    "StationName": f"<b>{MARK}</b>",
    "Manufacturer": IMAGE,
    "ManufacturerModelName": SCRIPT,
    "SoftwareVersions": [SCRIPT, TEMPLATE],
    "BodyPartExamined": f"<B>{MARK.upper()}</B>",
    "ViewPosition": f"<B>{MARK.upper()}",
    "ImageComments": IMAGE,
    "BurnedInAnnotation": "NO",
}
CALLING_TITLE = f"<b>{MARK}</b>"
ROOT = "1.2.826.0.1.3680043.8.498.66"
PAGES = (
    *("/", "/scans", "/scans?refused=true", "/quarantine", "/quarantine?reason=burned_in"),
    *("/ledger", "/monitors", "/models", "/runs", "/labels", "/metrics"),
    *("/api/v1/scans", "/api/v1/quarantine", "/api/v1/monitors", f"/scans/{SCRIPT}"),
)
COMMANDS = (
    ("scan", "list"),
    ("scan", "show", "1"),
    ("scan", "quarantine"),
    ("scan", "quarantine", "list", "--json"),
    ("audit", "verify"),
)


def instance(number: int, **elements: object) -> bytes:
    """Return an instance whose every text is markup."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom: markup is no code string
        ds = radiograph(
            SOPInstanceUID=f"{ROOT}.{number}",
            StudyInstanceUID=f"{ROOT}.0",
            **{**TEXTS, **elements},
        )
        return as_file(ds)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_markup_that_a_sender_writes_is_on_no_page_and_in_no_output(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, str] = {}
    with receiving(home) as receiver:
        strange = receiver.associate(ComputedRadiographyImageStorage, title=CALLING_TITLE)
        strange.release()
        assert receiver.store(instance(1), instance(2, BurnedInAnnotation="YES")) == [0, 0]
        named = home.with_name("in") / f"{IMAGE.replace('/', '')}.dcm"
        named.parent.mkdir()
        named.write_bytes(instance(3, Modality=SCRIPT, SOPClassUID="1.2.3"))
        report = receiver.driftward.intake.add([named.parent], site="north")
        said["report"] = repr(report)
        (scan,) = receiver.scans()
        said["row"] = repr([getattr(scan, column.name) for column in scan.__table__.columns])
        items = list(receiver.driftward.quarantine.items())
        assert [item.reason.value for item in items] == ["burned_in", "not_an_image"]
        with local_client(receiver.driftward) as client:
            shown = (*PAGES, f"/scans/{scan.id}", f"/api/v1/quarantine/{items[0].id}")
            for path in shown:
                said[path] = client.get(path).text
            assert "<h1" in said[f"/scans/{scan.id}"]
            assert "burned_in" in said["/api/v1/quarantine"]
        receiver.stop()
        said["log"] = receiver.log
    capfd.readouterr()
    monkeypatch.setenv("DRIFTWARD_HOME", str(home))
    for words in COMMANDS:
        monkeypatch.setattr("sys.argv", ["driftward", *words])
        with suppress(SystemExit):
            main()
        said[" ".join(words)] = "".join(capfd.readouterr())
    hits = [where for where, text in said.items() if MARK in text.lower() or _RENDERED in text]
    assert hits == []
    files = [path for path in home.rglob("*") if path.is_file()]
    held = [
        path.relative_to(home).as_posix()
        for path in files
        if MARK.encode() in path.read_bytes().lower()
    ]
    assert held == []
