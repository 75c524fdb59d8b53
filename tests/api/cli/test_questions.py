"""What an auditor asks on the command line, of scans that came in as DICOM files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_instances import as_file, radiograph

from registry.bundles.bundle import Bundle


@pytest.fixture
def scanned(driftward: Callable[..., Any], home: Path, tmp_path: Path) -> Path:
    """A home with one scan of one patient."""
    ds = radiograph(PatientID="MRN-1", StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1")
    (tmp_path / "1.dcm").write_bytes(as_file(ds))
    driftward("scan", "add", tmp_path / "1.dcm", "--site", "north")
    return home


def test_a_study_is_found_by_its_own_uid_which_is_not_repeated(
    driftward: Callable[..., Any], scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = driftward("audit", "as-of", "1.2.3", "--site", "north", "--json")
    monkeypatch.setattr("sys.stdin", io.StringIO("1.2.3\n"))
    asked = driftward("audit", "as-of", "--site", "north")
    by_number = driftward("audit", "as-of", "--scan", 1, "--json")
    assert (given.code, asked.code, by_number.code) == (0, 0, 0)
    assert [scan["scan"] for scan in given.document["scans"]] == [1]
    assert given.document["scans"] == by_number.document["scans"]
    assert "nothing had read it" in asked.stdout
    assert "1.2.3" not in given.stdout + asked.stdout


def test_a_patient_whom_no_version_saw(driftward: Callable[..., Any], scanned: Path) -> None:
    found = driftward("audit", "saw-patient", "--site", "north", "--patient", "MRN-1", "--json")
    assert found.document == {"scans": 1, "versions": []}
    unknown = driftward("audit", "saw-patient", "--site", "north", "--patient", "MRN-2")
    assert unknown.code == 1
    assert "no scan of north came under that identifier" in unknown.stderr
    assert "MRN-2" not in unknown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("as-of", "1.2.3"), "give --site, or --scan NUMBER"),
        (("as-of", "--scan", 7), "there is no scan 7"),
        (("as-of", "--scan", 1, "--site", "north"), "give one of them"),
        (("as-of", "1.9", "--site", "north"), "no scan of that study came from north"),
        (("as-of", "--scan", 1, "--at", "2026-03-04T10:00"), "has no time zone"),
        (("as-of", "--scan", 1, "--at", "2099-03-04T10:00Z"), "is yet to come"),
        (("as-of", "--scan", 1, "--at", "1999-03-04T10:00Z"), "nothing of it had arrived by"),
        (("as-of", "--scan", 1, "--at", "soon"), "is not a time"),
        (("standing", "lungs"), "there is no model lungs"),
        (("trained-on", "lungs@1"), "there is no version lungs@1"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(
    driftward: Callable[..., Any], scanned: Path, words: tuple[object, ...], message: str
) -> None:
    found = driftward("audit", *words)
    assert found.code == 1
    assert message in " ".join(found.stderr.split())


def test_a_recall_is_told_wherever_versions_are_listed(
    driftward: Callable[..., Any], home: Path, general_bundle: Bundle
) -> None:
    root = general_bundle.root
    assert (
        driftward("model", "import", root, "--name", "general", "--tier", "general").code == 0
    )
    done = driftward("recall", "general@1", "--reason", "wrong weights", "--json")
    assert done.document == {"version": "general@1", "recalled": ["general@1"], "serving": []}
    assert "RECALLED" in driftward("model", "list").stdout
    assert "wrong weights" in driftward("model", "show", "general@1").stdout
    trained = driftward("audit", "trained-on", "general@1")
    assert "imported by" in trained.stdout
    again = driftward("recall", "general@1", "--reason", "once more")
    assert (again.code, "recalled already" in again.stderr) == (1, True)
    back = driftward("recall", "general@1", "--withdraw", "--reason", "mixed up")
    assert back.stdout == "general@1 is recalled no longer\n"
    assert driftward("audit", "verify").code == 0
