from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from dicom_instances import as_file, radiograph
from sqlalchemy import select

from monitor.intake.keys import load_keyring
from monitor.tables import ScanRow
from registry import ledger
from registry.database import Database

if TYPE_CHECKING:
    from tests.api.cli.conftest import Outcome, Run

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def scan(driftward: Run, home: Path, tmp_path: Path) -> Path:
    """A scan that was taken in."""
    path = tmp_path / "1.dcm"
    path.write_bytes(as_file(radiograph()))
    assert driftward("scan", "add", path, "--site", "north").code == 0
    return path


def added_and_known(driftward: Run, path: Path) -> tuple[int, int]:
    document = driftward("scan", "add", path, "--site", "north", "--json").document
    return document["added"], document["known"]


def killed(point: str, *words: object) -> None:
    """Run a command that is killed where it reaches a point."""
    done = subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", *map(str, words)],
        cwd=REPOSITORY,
        env={**os.environ, "DRIFTWARD_CRASH_AT": point},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def test_a_scan_is_known_after_its_key_was_rotated(
    driftward: Run, home: Path, scan: Path
) -> None:
    assert driftward("key", "rotate").code == 2  # without a reason
    rotated = driftward("key", "rotate", "--reason", "yearly", "--json")
    assert rotated.document == {"key": 2}
    assert added_and_known(driftward, scan) == (0, 1)
    listed = driftward("key", "list")
    secrets = [key.key.secret.hex() for key in load_keyring(home / "keys/pseudonyms.key").keys]
    assert len(secrets) == 2
    assert not any(secret in listed.stdout for secret in secrets)
    assert driftward("audit", "verify").code == 0


def test_a_key_that_alone_recognises_somebody_is_dropped_on_demand_only(
    driftward: Run, home: Path, scan: Path
) -> None:
    driftward("key", "rotate", "--reason", "yearly")
    (held, newest) = driftward("key", "list", "--json").document
    assert (held["state"], held["patients"], newest["state"]) == ("held", 1, "newest")
    refused = driftward("key", "drop", 1, "--reason", "leaked")
    assert refused.code == 1
    assert "1 patients are recognised by key 1 alone" in refused.stderr
    dropped = driftward("key", "drop", 1, "--reason", "leaked", "--orphan", "--json")
    assert dropped.document == {"key": 1, "orphaned_patients": 1}
    assert added_and_known(driftward, scan) == (1, 0)
    assert driftward("key", "drop", 2, "--reason", "oops").code == 1
    assert driftward("audit", "verify").code == 0


@pytest.mark.parametrize("point", ["keys: beside the old ones", "keys: known to the database"])
def test_a_rotation_that_is_killed_leaves_keys_that_work(
    driftward: Run, home: Path, scan: Path, point: str
) -> None:
    killed(point, "key", "rotate", "--reason", "yearly")
    assert added_and_known(driftward, scan) == (0, 1)
    rotated = driftward("key", "rotate", "--reason", "again", "--json").document["key"]
    assert rotated == (2 if point == "keys: beside the old ones" else 3)
    assert added_and_known(driftward, scan) == (0, 1)
    assert [path.name for path in (home / "keys").glob("pseudonyms*")] == ["pseudonyms.key"]
    assert driftward("audit", "verify").code == 0


def test_a_drop_that_is_killed_is_finished_by_whoever_comes_next(
    driftward: Run, home: Path, scan: Path
) -> None:
    driftward("key", "rotate", "--reason", "yearly")
    added_and_known(driftward, scan)
    killed("keys: dropped in the database", "key", "drop", 1, "--reason", "no longer needed")
    assert added_and_known(driftward, scan) == (0, 1)
    keyring = load_keyring(home / "keys" / "pseudonyms.key")
    assert [key.number for key in keyring.keys] == [2]


def test_a_patient_is_reidentified_by_who_holds_the_private_key_and_the_ledger_knows(
    driftward: Run, home_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = X25519PrivateKey.generate()
    (tmp_path / "public.pem").write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "private.pem").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "1.dcm").write_bytes(as_file(radiograph(SOPInstanceUID="1.2.3")))
    driftward("scan", "add", tmp_path / "1.dcm", "--site", "north")
    monkeypatch.setenv("DRIFTWARD_REIDENTIFICATION_KEY", str(tmp_path / "public.pem"))
    (tmp_path / "2.dcm").write_bytes(as_file(radiograph(PatientID="4712")))
    assert driftward("scan", "add", tmp_path / "2.dcm", "--site", "north").code == 0
    with home_database.reading() as session:
        before, scan = session.scalars(select(ScanRow).order_by(ScanRow.id))

    def ask(surrogate: str, *options: object) -> Outcome:
        words = ("key", "reidentify", surrogate, "--private-key", tmp_path / "private.pem")
        return driftward(*words, *options)

    found = ask(scan.patient, "--reason", "an incidental finding", "--json")
    assert found.document["PatientID"] == "4712"
    for surrogate in (scan.study, scan.series, scan.instance):
        assert ask(surrogate, "--reason", "again", "--json").document == found.document
    assert ask(scan.patient).code == 2  # without a reason
    absent = ask(before.patient, "--reason", "too early")
    assert absent.code == 1
    assert "DRIFTWARD_REIDENTIFICATION_KEY" in absent.stderr
    assert ask("4712", "--reason", "the wrong way round").code == 1
    with home_database.reading() as session:
        entries = ledger.entries(session, kind="patient.reidentified")
        assert [entry.subject for entry in entries] == [f"scan {scan.id}"] * 4
        assert entries[0].facts == {"reason": "an incidental finding"}
        text = str(ledger.entries(session))
    assert scan.patient not in text
    assert "4712" not in text
    assert driftward("audit", "verify").code == 0
