"""A home whose shift waits for requested labels, with the identifiers that an archive knows."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from dicom_instances import as_file, radiograph
from label_reports import MAPPING
from monitored_history import History, found
from requested_labels import NOW, RequestedLabels, requested_plan
from retraining_rows import SITE, Retraining
from sqlalchemy import select

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor.intake.pseudonyms import instance_pseudonyms
from monitor.intake.reading import read_instance
from monitor.intake.sealing import Sealer
from monitor.labelling.mapping import parse_mapping
from monitor.tables import ScanRow, SealedOriginalsRow
from registry import ledger
from registry.clock import ReplayClock

UID = "1.2.826.0.1.3680043.8.498.7"


@dataclass(kw_only=True)
class RequestedHome:
    """A home, its shift, and who can open originals."""

    driftward: Driftward
    world: RequestedLabels
    episode: int
    private_key: Path
    root: Path

    @classmethod
    def founded(cls, folder: Path) -> RequestedHome:
        """Make a home in which a run has asked for labels."""
        settings = Settings(home=folder / "home", device="cpu", threads=1)
        operator = initialise(settings, name="operator")
        driftward = Driftward.open(settings, clock=ReplayClock(NOW))
        # Before the champion, whose tasks stand in no bundle here.
        driftward.label_intake.apply_mapping(
            parse_mapping(MAPPING, source="mapping.yaml"), by=operator
        )
        found(driftward.database)
        history = History(driftward.database, driftward.profiles)
        world = RequestedLabels(retraining=Retraining(history))
        world.apply(requested_plan())
        scans = world.receive(160)
        private = X25519PrivateKey.generate()
        path = folder / "key.pem"
        path.write_bytes(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        made = cls(
            driftward=driftward,
            world=world,
            episode=0,
            private_key=path,
            root=folder,
        )
        made._name(scans, Sealer(private.public_key()))
        made.episode = world.open()
        return made

    def copied(self, folder: Path) -> RequestedHome:
        """Return a copy of it as it stands."""
        self.driftward.database.dispose()
        shutil.copytree(self.root / "home", folder / "home")
        driftward = Driftward.open(Settings(home=folder / "home", device="cpu", threads=1))
        history = History(driftward.database, driftward.profiles)
        retraining = Retraining.__new__(Retraining)
        retraining.history, retraining.database = history, driftward.database
        retraining.clock = ReplayClock(self.world.retraining.now)
        world = RequestedLabels(
            retraining=retraining, truth=self.world.truth, scores=self.world.scores
        )
        return RequestedHome(
            driftward=driftward,
            world=world,
            episode=self.episode,
            private_key=self.private_key,
            root=folder,
        )

    def uid(self, scan: int) -> str:
        return f"{UID}.{scan}"

    def _name(self, scans: list[int], sealer: Sealer) -> None:
        """Let scans be what intake would have made of instances of these UIDs."""
        keys = self.driftward.pseudonym_keys
        keys.reload()
        names = instance_pseudonyms(
            [self.uid(scan) for scan in scans], site=SITE, key=keys.current()
        )
        with self.driftward.database.transaction() as session:
            rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
            for row, name in zip(rows, names, strict=True):
                row.instance = name
                instance = radiograph(
                    SOPInstanceUID=self.uid(row.id), PatientID=f"MRN-{row.id}"
                )
                session.add(
                    SealedOriginalsRow(
                        scan=row.id, sealed=sealer.seal(read_instance(as_file(instance)))
                    )
                )
            ledger.append(
                session,
                at=self.world.retraining.now,
                actor="test",
                kind="scans.received",
                subject=SITE,
                facts={},
                batches=[(ScanRow, rows[0].batch)],
            )
