from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dicom_instances import as_file, gradient, radiograph
from pydicom.uid import EncapsulatedPDFStorage
from sqlalchemy import update

from monitor.tables import ScanRow
from registry.canonical import sha256
from registry.database import Database

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

REPOSITORY = Path(__file__).parents[3]
GOOD = as_file(radiograph())
#: What of `radiograph` names the patient: no message, list or page may repeat it.
CANARIES = ("Yamada", "Hanako", "4711-0815", "20220715")

Write = Callable[[Path], object]


def pixelless() -> bytes:
    ds = radiograph()
    del ds.PixelData
    return as_file(ds)


def pdf() -> bytes:
    ds = radiograph(SOPClassUID=EncapsulatedPDFStorage, Modality="DOC")
    del ds.PixelData
    return as_file(ds)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("1.dcm", GOOD)


BAD: dict[str, tuple[Write, str]] = {
    "a pipe": (os.mkfifo, "not_readable"),
    "an empty file": (lambda path: path.touch(), "not_dicom"),
    "text": (lambda path: path.write_text("Yamada^Hanako was here"), "not_dicom"),
    "an archive": (archive, "archive"),
    "a truncated file": (lambda path: path.write_bytes(GOOD[:-50]), "truncated"),
    "an image without pixels": (lambda path: path.write_bytes(pixelless()), "no_pixels"),
    "a document": (lambda path: path.write_bytes(pdf()), "report"),
    "burned-in text": (
        lambda path: path.write_bytes(as_file(radiograph(BurnedInAnnotation="YES"))),
        "burned_in",
    ),
}


def no_canary(*texts: str) -> bool:
    return not any(canary in text for text in texts for canary in CANARIES)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_quarantined_with_its_reason_and_the_command_is_done(
    driftward: Run, home: Path, tmp_path: Path, kind: str
) -> None:
    write, reason = BAD[kind]
    path = tmp_path / "input"
    write(path)
    done = driftward("scan", "add", path, "--site", "north", "--json")
    assert done.code == 0
    assert done.document == {
        "added": 0,
        "known": 0,
        "quarantined": 1,
        "followed": 0,
        "reasons": {reason: 1},
    }
    listed = driftward("scan", "quarantine", "--json")
    assert [item["reason"] for item in listed.document] == [reason]
    told = driftward("scan", "quarantine")
    assert reason in told.stdout
    assert no_canary(done.stdout, done.stderr, listed.stdout, told.stdout)
    assert path.exists()


def test_every_bad_file_at_once_costs_no_good_one(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number, (write, _) in enumerate(BAD.values()):
        if write is not os.mkfifo:  # a folder's pipes are no files, and are passed over
            write(inbox / f"{number}.dcm")
    for number in range(3):
        uid = f"1.2.826.0.1.3680043.8.498.9.{number}"
        (inbox / f"good-{number}.dcm").write_bytes(as_file(radiograph(SOPInstanceUID=uid)))
    done = driftward("scan", "add", inbox, "--site", "north")
    assert done.code == 0
    assert "3 scans added, 0 known before, 7 quarantined" in done.stdout
    assert "2 × not_dicom" in done.stdout
    assert len(driftward("scan", "list", "--json").document) == 3
    assert len(driftward("scan", "quarantine", "--json").document) == 7
    assert driftward("audit", "verify", "--json").document["valid"] is True
    assert no_canary(done.stdout, done.stderr)


def test_the_same_file_twice_is_one_scan_and_another_image_of_it_a_conflict(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(GOOD)
    assert driftward("scan", "add", path, "--site", "north", "--json").document["added"] == 1
    again = driftward("scan", "add", path, path, "--site", "north", "--json")
    assert again.document == {
        "added": 0,
        "known": 1,
        "quarantined": 0,
        "followed": 0,
        "reasons": {},
    }
    path.write_bytes(as_file(radiograph(gradient()[::-1].copy())))
    third = driftward("scan", "add", path, "--site", "north", "--json")
    assert (third.code, third.document["reasons"]) == (0, {"conflict": 1})
    assert len(driftward("scan", "list", "--json").document) == 1


def test_a_path_that_does_not_exist_fails_before_anything_is_taken(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "1.dcm").write_bytes(GOOD)
    done = driftward("scan", "add", tmp_path / "1.dcm", tmp_path / "2.dcm", "--site", "north")
    assert done.code == 1
    assert "2.dcm does not exist" in done.stderr
    assert driftward("scan", "list", "--json").document == []


def test_a_scan_is_shown_without_anything_of_the_patient(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "1.dcm").write_bytes(GOOD)
    driftward("scan", "add", tmp_path / "1.dcm", "--site", "north")
    shown = driftward("scan", "show", 1, "--json")
    assert shown.document["scanner_model"] == "DRX-Evolution Plus"
    assert "patient" not in shown.document
    texts = [driftward(*words).stdout for words in (("scan", "show", 1), ("scan", "list"))]
    assert no_canary(shown.stdout, *texts)


def test_stored_files_are_verified_by_a_reader_that_did_not_write_them(
    driftward: Run, home: Path, home_database: Database, tmp_path: Path
) -> None:
    (tmp_path / "1.dcm").write_bytes(GOOD)
    driftward("scan", "add", tmp_path / "1.dcm", "--site", "north")
    clean = driftward("scan", "verify", "--json")
    assert (clean.code, clean.document["checked"], clean.document["clean"]) == (0, 1, True)
    (stored,) = (home / "vault").rglob("*.dcm")
    # As if intake had let a name through: the file, its digest and the row are at one.
    content = as_file(radiograph())
    named = stored.with_name(f"{sha256(content)}.dcm")
    folder = home / "vault" / named.name[:2]
    folder.mkdir(exist_ok=True)
    (folder / named.name).write_bytes(content)
    with home_database.transaction() as session:
        session.execute(update(ScanRow).values(vault_digest=named.stem))
    found = driftward("scan", "verify")
    assert found.code == 1
    assert "PatientName: a value that is not allowed, in 1 files" in found.stdout
    assert "PatientBirthDate" in found.stdout
    assert no_canary(found.stdout, found.stderr)


def run_under(limit: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command line where no file may grow beyond `limit` bytes."""

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lower,
    )


def test_a_vault_without_room_fails_the_command_and_loses_nothing(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    large = radiograph(np.resize(gradient(), (1000, 1000)))
    (tmp_path / "1.dcm").write_bytes(as_file(large))
    words = ("scan", "add", tmp_path / "1.dcm", "--site", "north", "--json")
    done = run_under(1 << 20, *words)
    assert done.returncode == 1
    assert "no space is left to write into" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path for path in (home / "vault").rglob("*") if path.is_file()] == []
    assert driftward("scan", "list", "--json").document == []
    assert driftward(*words).document["added"] == 1


def terminal_output(program: str, **environment: str) -> bytes:
    """Run a program whose stderr is a terminal, and return what it wrote there."""
    parent, child = pty.openpty()
    try:
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env={**inherited, "TERM": "xterm-256color", **environment},
            stderr=child,
            check=True,
        )
        os.close(child)
        written = b""
        try:
            while part := os.read(parent, 65536):
                written += part
        except OSError:  # Linux's end of a terminal that nobody holds any more
            pass
        return written
    finally:
        os.close(parent)


def test_progress_is_without_colour_where_no_color_asks_for_it() -> None:
    program = (
        "from api.progress import progress_bar\n"
        "with progress_bar('taking scans in') as tell:\n"
        "    tell(1, 2)\n"
    )
    assert b"\x1b[38;5;" in terminal_output(program)
    plain = terminal_output(program, NO_COLOR="1")
    assert b"taking scans in" in plain
    assert b"\x1b[38;" not in plain
    assert b"\x1b[3" not in plain
