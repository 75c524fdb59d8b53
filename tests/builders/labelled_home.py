"""A home with some radiographs, into which labels are brought by every road."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from dicom_instances import as_file
from label_reports import MAPPING, csv_of
from pydicom.dataset import Dataset
from sqlalchemy import select

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor.labelling.mapping import parse_mapping
from monitor.labels import LabelImport
from monitor.tables import LabelRow
from registry.clock import ReplayClock
from registry.identities import Identity
from registry.ledger import Entry, entries, verify

SITE = "north"
ARRIVED = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
NOW = ARRIVED + timedelta(days=2)


@dataclass(kw_only=True)
class LabelledHome:
    """Radiographs of some studies of one site, and a mapping in force."""

    driftward: Driftward
    operator: Identity
    images: list[Dataset]
    folder: Path

    @classmethod
    def founded(cls, folder: Path, images: Sequence[Dataset]) -> LabelledHome:
        """Make a home in a folder, and take images in."""
        settings = Settings(home=folder / "home", device="cpu", threads=1)
        operator = initialise(settings, name="operator")
        driftward = Driftward.open(settings, clock=ReplayClock(ARRIVED))
        inbox = folder / "inbox"
        inbox.mkdir()
        for number, ds in enumerate(images):
            (inbox / f"{number}.dcm").write_bytes(as_file(ds))
        added = driftward.intake.add([inbox], site=SITE)
        assert added.added == len(images), added
        driftward.clock = ReplayClock(NOW)
        driftward.label_intake.apply_mapping(
            parse_mapping(MAPPING, source="mapping.yaml"), by=operator
        )
        return cls(driftward=driftward, operator=operator, images=list(images), folder=folder)

    def copied(self, folder: Path) -> LabelledHome:
        """Return a copy of it as it stands."""
        self.driftward.database.dispose()
        shutil.copytree(self.folder / "home", folder / "home")
        settings = Settings(home=folder / "home", device="cpu", threads=1)
        return LabelledHome(
            driftward=Driftward.open(settings, clock=ReplayClock(NOW)),
            operator=self.operator,
            images=self.images,
            folder=folder,
        )

    def give(
        self, content: bytes, *, site: str = SITE, name: str = "file", **options: object
    ) -> LabelImport:
        """Bring in what a file holds."""
        path = self.folder / name
        path.write_bytes(content)
        return self.driftward.label_intake.add(
            path,
            site=site,
            by=self.operator,
            **options,  # type: ignore[arg-type]
        )

    def say(
        self,
        number: int,
        value: object,
        *,
        reader: str = "r1",
        hours: float = 1,
        days: float = 0,
        years: int = 0,
        provenance: str = "reader",
        task: str = "pneumonia",
    ) -> LabelImport:
        """Bring in one label of an image, signed so long after it came (unsigned if hours < 0)."""
        moment = ARRIVED.replace(year=ARRIVED.year + years) + timedelta(days=days, hours=hours)
        signed = "" if hours < 0 else moment
        uid = self.images[number].SOPInstanceUID
        return self.give(csv_of((uid, task, value, provenance, reader, signed)))

    def labels(self) -> list[LabelRow]:
        with self.driftward.database.reading() as session:
            return list(session.scalars(select(LabelRow).order_by(LabelRow.id)))

    def refusals(self) -> list[Entry]:
        with self.driftward.database.reading() as session:
            return entries(session, kind="labels.refused")

    def ledger_is_valid(self) -> bool:
        with self.driftward.database.reading() as session:
            return verify(session).valid
