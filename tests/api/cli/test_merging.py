"""`driftward scan merge-patient`: identifiers go in, and none comes out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_instances import as_file, radiograph
from sqlalchemy import select

from api.assembly import Driftward
from api.settings import Settings
from monitor.tables import ScanRow
from registry import ledger


@pytest.fixture
def two(driftward: Callable[..., Any], home: Path, tmp_path: Path) -> Path:
    """A home with a scan of each of two patients."""
    for number, patient in enumerate(("MRN-1", "MRN-2")):
        ds = radiograph(PatientID=patient, SOPInstanceUID=f"1.2.3.{number}")
        (tmp_path / f"{number}.dcm").write_bytes(as_file(ds))
        driftward("scan", "add", tmp_path / f"{number}.dcm", "--site", "north")
    return home


def answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in answers)))


def merged(driftward: Callable[..., Any]) -> Any:
    return driftward("scan", "merge-patient", "--site", "north", "--reason", "ADT A40")


def test_two_identifiers_name_one_patient_from_then_on(
    driftward: Callable[..., Any], two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "MRN-1", " MRN-2")
    done = merged(driftward)
    assert (done.code, done.stdout.splitlines()[-1].strip()) == (
        0,
        "both name one patient from now on",
    )
    answer(monkeypatch, "MRN-2", "MRN-1")
    assert "both named one patient before" in merged(driftward).stdout
    installation = Driftward.open(Settings(home=two))
    with installation.database.reading() as session:
        assert len(set(session.scalars(select(ScanRow.person)))) == 1
        (entry,) = ledger.entries(session, kind="patient.merged")
        assert ledger.verify(session).valid
    assert entry.facts == {"how": "stated", "pseudonyms": 1, "reason": "ADT A40"}
    assert "MRN" not in str(entry)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (("MRN-9", "MRN-2"), "came under the first identifier"),
        (("MRN-1", "MRN-9"), "came under the second identifier"),
        (("MRN-1", "MRN-1"), "the same"),
    ],
)
def test_what_cannot_be_merged_is_refused_without_its_identifier(
    driftward: Callable[..., Any],
    two: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[str, str],
    said: str,
) -> None:
    assert two.exists()
    answer(monkeypatch, *answers)
    done = merged(driftward)
    assert done.code != 0
    assert said in done.stderr
    assert "MRN" not in done.stderr
