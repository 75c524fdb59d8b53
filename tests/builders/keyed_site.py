"""An intake whose keys of pseudonyms can be rotated and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from dicom_instances import as_file, radiograph
from sqlalchemy import select

from monitor.intake.keys import create_key, load_keyring
from monitor.intake.pseudonym_keys import PseudonymKeys
from monitor.intake.quarantine import Quarantine
from monitor.intake.study_time import StudyTime
from monitor.intake.vault import Vault
from monitor.scans import Outcome, ScanIntake
from monitor.tables import ScanRow
from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.identities import Identity, Role

ADA = Identity(name="Ada", roles=frozenset({Role.ADMIN}))
ROOT = "1.2.826.0.1.3680043.8.498"


def image(
    patient: str = "1",
    *,
    study: int = 1,
    series: int = 1,
    instance: int = 1,
    station: str = "ROOM3",
) -> bytes:
    return as_file(
        radiograph(
            PatientID=patient,
            StudyInstanceUID=f"{ROOT}.1.{study}",
            SeriesInstanceUID=f"{ROOT}.2.{series}",
            SOPInstanceUID=f"{ROOT}.3.{instance}",
            StationName=station,
        )
    )


class Site:
    """An intake whose keys can be rotated."""

    study_time = StudyTime.REMOVED

    def __init__(self, folder: Path, database: Database, now: datetime) -> None:
        self.folder, self.database = folder, database
        self.clock = ReplayClock(now)
        self.key_file = folder / "keys" / "pseudonyms.key"
        create_key(self.key_file)
        (folder / "quarantine").mkdir(mode=0o700)
        self.keys, self.intake = self.process()

    def process(self) -> tuple[PseudonymKeys, ScanIntake]:
        """Return what another process on the same home would have."""
        keys = PseudonymKeys(self.database, self.key_file)
        quarantine = Quarantine(
            self.folder / "quarantine", key=load_keyring(self.key_file).newest.key
        )
        vault = Vault(self.folder / "vault")
        return keys, ScanIntake(
            self.database, vault, quarantine, keys, self.clock, study_time=self.study_time
        )

    def send(self, *contents: bytes, intake: ScanIntake | None = None) -> list[Outcome]:
        intake = intake or self.intake
        fates = intake.take([intake.prepare(content, site="north") for content in contents])
        return [fate.outcome for fate in fates]

    def rotate(self) -> int:
        return self.keys.rotate(reason="yearly", by=ADA, clock=self.clock)

    def drop(self, number: int) -> int:
        return self.keys.drop(number, reason="no longer needed", by=ADA, clock=self.clock)

    def scans(self) -> Sequence[ScanRow]:
        with self.database.reading() as session:
            return session.scalars(select(ScanRow).order_by(ScanRow.id)).all()

    def verified(self) -> bool:
        with self.database.reading() as session:
            return ledger.verify(session).valid
