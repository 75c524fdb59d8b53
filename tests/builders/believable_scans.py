"""Scans with believable pixels, embeddings and results: each follows from the scan's number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from dicom_instances import radiograph
from pydicom import dcmwrite

from monitor.intake.vault import Vault
from monitor.tables import ResultRow, ScanRow
from registry.versions import VersionRow

DIMENSION = 12
SITE = "guangzhou"
TASK = "pneumonia"
PICTURES = files("api.demo") / "sample" / "children.npz"
#: Pseudonyms that no page, answer or figure may ever carry.
PSEUDONYM = "pseudonym-"

Floats = npt.NDArray[np.float32]


class Scans:
    """Makes the rows of scans, and knows which of them an update moved."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.pictures = self._store_pictures()
        #: scan -> how far it is moved
        self.shifts: dict[int, float] = {}

    def move(self, scans: Sequence[int], shift: float) -> None:
        """Remember how far scans are moved, before they are embedded."""
        self.shifts.update(dict.fromkeys(scans, shift))

    def _store_pictures(self) -> list[str]:
        """Put a few real radiographs into the vault, as DICOM."""
        with np.load(str(PICTURES)) as sample:
            images = sample["images"][:40]
        contents = []
        for image in images:
            stream = io.BytesIO()
            ds = radiograph(image, PatientName=None, PatientID=None, PatientBirthDate=None)
            dcmwrite(stream, ds, enforce_file_format=True)
            contents.append(stream.getvalue())
        return self.vault.put_all(contents)

    def row(
        self, batch: int, number: int, at: datetime, software: str, *, modality: str = "DX"
    ) -> ScanRow:
        name = f"{PSEUDONYM}{batch}-{number}"
        return ScanRow(
            batch=batch,
            site=SITE,
            patient=f"{name}-patient",
            study=f"{name}-study",
            series=f"{name}-series",
            instance=f"{name}-instance",
            vault_digest=self.pictures[number % len(self.pictures)],
            pixel_digest=f"{name}-pixels",
            modality=modality,
            body_part="CHEST",
            view="AP" if number % 4 else "PA",
            manufacturer="Carestream",
            scanner_model="DRX-Evolution",
            software_version=software,
            sex="F" if number % 2 else "M",
            age_years=1 + number % 5,
            arrived_at=at,
        )

    def embedding(self, scan: int, version: VersionRow) -> Floats:
        rng = np.random.default_rng([scan, version.tier == "task"])
        # The champion's own space moves more than the fixed encoder's.
        moved = self.shifts.get(scan, 0.0) * (1.3 if version.tier == "task" else 1.0)
        direction = np.linspace(1.0, 0.2, DIMENSION)
        return (rng.normal(size=DIMENSION) + moved * direction).astype(np.float32)

    def result(
        self, batch: int, scan: int, version: VersionRow, at: datetime, delivery: str
    ) -> ResultRow:
        rng = np.random.default_rng([scan, version.number, 7])
        broken = self.shifts.get(scan, 0.0) > 0 and version.number == 1
        centre = (2.1 if truth_of(scan) else -2.1) * (0.45 if broken else 1.0)
        logit = centre + (1.6 if broken else 0.0) + rng.normal(0.0, 1.35)
        positive = float(1 / (1 + np.exp(-logit)))
        return ResultRow(
            batch=batch,
            scan=scan,
            version=version.id,
            task=TASK,
            probabilities=[1 - positive, positive],
            threshold=0.5,
            delivery=delivery,
            created_at=at,
        )


def truth_of(scan: int) -> int:
    """Return whether a scan shows the finding."""
    return int(np.random.default_rng([scan, 3]).random() < 0.6)
