"""A receiver that is killed at a crash point while storescu sends, and what is then left."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom_instances import as_file, radiograph
from dicom_programs import program
from running_receiver import receiving

SENDERS = 3
FILES_EACH = 5
_ROOT = "1.2.826.0.1.3680043.8.498.5"

#: The crash points that a received instance passes.
RECEIVE_POINTS = (
    "receive: data set complete",
    "receive: de-identified",
    "scans: in the vault",
    "scans: before the commit",
    "scans: committed",
    "receive: acknowledged",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What one crash left."""

    acknowledged: int  #: before the crash
    stored: int  #: of all that was sent, when the receiver came back
    acknowledged_and_lost: int
    stored_after_resend: int
    whole: bool  #: rows, files and ledger agree once everything was sent again


def write_files(folder: Path) -> list[Path]:
    """Write what each sender sends, and return the senders' folders."""
    folders = []
    for sender in range(SENDERS):
        own = folder / str(sender)
        own.mkdir(parents=True)
        for number in range(FILES_EACH):
            instance = f"{_ROOT}.{sender}.{number}"
            ds = radiograph(SOPInstanceUID=instance, PatientID=f"{sender}-{number}")
            (own / f"{number}.dcm").write_bytes(as_file(ds))
        folders.append(own)
    return folders


def crash_while_sending(home: Path, folder: Path, *, point: str, after: int) -> Crash:
    """Kill a receiver at a point, look at what is there, and send everything again."""
    folders = write_files(folder)
    environment = {"DRIFTWARD_CRASH_AT": point, "DRIFTWARD_CRASH_AFTER": str(after)}
    with receiving(home, *_options(folder), environment=environment) as receiver:
        senders = [_send(receiver.port, own) for own in folders]
        said = [sender.communicate(timeout=120)[0] for sender in senders]
        receiver.kill()
    acknowledged = sum(text.count("Received Store Response (Success)") for text in said)
    with receiving(home, *_options(folder)) as receiver:
        stored = len(receiver.scans())
        # Each sender sends in order, and stops at what was not acknowledged.
        expected = {
            f"{sender}-{number}"
            for sender, text in enumerate(said)
            for number in range(text.count("Received Store Response (Success)"))
        }
        lost = len(expected) - len(expected & _patients(receiver.driftward, expected))
        for own in folders:
            again = _send(receiver.port, own)
            text = again.communicate(timeout=120)[0]
            assert text.count("Received Store Response (Success)") == FILES_EACH, text
        stored_after = len(receiver.scans())
        try:
            receiver.require_whole()
            whole = True
        except AssertionError:
            whole = False
    return Crash(
        acknowledged=acknowledged,
        stored=stored,
        acknowledged_and_lost=lost,
        stored_after_resend=stored_after,
        whole=whole,
    )


def _patients(driftward: object, candidates: set[str]) -> set[str]:
    """Return which patients are stored, found by their pseudonyms."""
    from sqlalchemy import select

    from api.assembly import Driftward
    from monitor.intake.keys import load_key
    from monitor.intake.pseudonyms import instance_pseudonym
    from monitor.tables import ScanRow

    assert isinstance(driftward, Driftward)
    key = load_key(driftward.home.pseudonym_key)
    with driftward.database.reading() as session:
        stored = set(session.scalars(select(ScanRow.instance)))
    return {
        name
        for name in candidates
        if instance_pseudonym(f"{_ROOT}.{name.replace('-', '.')}", site="north", key=key)
        in stored
    }


def _options(folder: Path) -> tuple[str, ...]:
    config = folder / "receiver.yaml"
    if not config.exists():
        config.write_text("site: north\nprocesses: 2\n")
    return ("--config", str(config))


def _send(port: int, folder: Path) -> subprocess.Popen[str]:
    files = sorted(folder.glob("*.dcm"), key=lambda path: int(re.sub(r"\D", "", path.stem)))
    return subprocess.Popen(
        [program("storescu"), "-v", "-aec", "DRIFTWARD", "127.0.0.1", str(port), *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
