"""CT and MR series of made-up patients, and a monitored model that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from dicom_instances import KEY, as_file, radiograph
from first_champion import put_into_use
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, KeyObjectSelectionDocumentStorage
from sqlalchemy import func, select

from monitor.assembling.assembler import Assembler
from monitor.assembling.counting import read_as
from monitor.assembling.tables import AssembledScanRow, ScanMemberRow
from monitor.embedding.embedding import Embedder
from monitor.intake.quarantine import Quarantine
from monitor.intake.vault import Vault
from monitor.monitors import MonitorSpecification, apply_monitor
from monitor.scans import Fate, ScanIntake
from monitor.tables import ScanRow
from registry import ledger
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.bundles.preprocessing import Unit
from registry.clock import ReplayClock
from registry.database import Database
from registry.tracking import Tracking
from registry.versions import Origin, VersionRow, register

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
SITE, TASK = "north", "pneumonia"
_ROOT = "1.2.826.0.1.3680043.8.498.77"
#: unit and reading -> the encoder and the champion of a monitor
Pair: TypeAlias = Callable[..., tuple[Bundle, Bundle]]

_UPRIGHT = [1, 0, 0, 0, 1, 0]


def ct_slice(
    patient: int, number: int, *, study: int = 1, series: int = 1, **elements: Any
) -> Dataset:
    """Return one slice of a CT series, 5 mm from the next; no two have the same pixels."""
    rng = np.random.default_rng([patient, study, series, number])
    samples = (1000 + 400 * rng.random((24, 20)) + 40 * patient).astype(np.uint16)
    of_study = f"{_ROOT}.{patient}.{study}"
    wanted = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{of_study}.{series}.{number}",
        "SeriesInstanceUID": f"{of_study}.{series}",
        "StudyInstanceUID": of_study,
        "PatientID": f"patient {patient}",
        "PatientBirthDate": "19600101",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ProtocolName": "CHEST ROUTINE",
        "ViewPosition": None,
        "SeriesNumber": series,
        "InstanceNumber": number,
        "ImagePositionPatient": [-100, -100, 5 * number],
        "ImageOrientationPatient": _UPRIGHT,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        **elements,
    }
    ds = radiograph(samples)
    for keyword, value in wanted.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)
    return ds


def ct_series(patient: int, slices: Iterable[int], **elements: Any) -> list[Dataset]:
    """Return slices of one series, by their numbers."""
    return [ct_slice(patient, number, **elements) for number in slices]


def rejection_of(instances: Sequence[Dataset], *, title: str, **elements: Any) -> bytes:
    """Return a key object selection that refers to instances of one study, as a file."""
    first = instances[0]
    ds = Dataset()
    ds.file_meta = first.file_meta
    ds.SOPClassUID = KeyObjectSelectionDocumentStorage
    ds.SOPInstanceUID = f"{first.SOPInstanceUID}.9{title}"
    ds.StudyInstanceUID = first.StudyInstanceUID
    ds.SeriesInstanceUID = f"{first.StudyInstanceUID}.99"
    ds.PatientID, ds.PatientName = first.PatientID, "Yamada^Hanako"
    ds.Modality = "KO"
    ds.ConceptNameCodeSequence = Items([_code(title, "rejected")])
    by_series: dict[str, list[Dataset]] = {}
    for one in instances:
        by_series.setdefault(str(one.SeriesInstanceUID), []).append(one)
    series_items = []
    for series, of in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedSOPSequence = Items([_reference(one) for one in of])
        series_items.append(item)
    study = Dataset()
    study.StudyInstanceUID = first.StudyInstanceUID
    study.ReferencedSeriesSequence = Items(series_items)
    ds.CurrentRequestedProcedureEvidenceSequence = Items([study])
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return as_file(ds)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


@dataclass(kw_only=True)
class SeriesHome:
    """A database, a vault, and what takes instances in and makes scans of them."""

    database: Database
    root: Path
    clock: ReplayClock = field(default_factory=lambda: ReplayClock(ANCHOR))

    def __post_init__(self) -> None:
        self.vault = Vault(self.root / "vault")
        # A local artifact is read where it lies: MLflow's store is never opened.
        tracking = Tracking("sqlite:///never-opened.db", self.root / "artifacts")
        self.bundles = BundleStore(tracking, self.root / "bundles")
        folder = self.root / "quarantine"
        folder.mkdir(mode=0o700, parents=True)
        self.quarantine = Quarantine(folder, key=KEY)
        self.intake = ScanIntake(self.database, self.vault, self.quarantine, KEY, self.clock)
        self.assembler = Assembler(self.database, self.vault, self.clock)
        self.embedder = Embedder(
            self.database, self.bundles, self.vault, self.clock, device="cpu", threads=1
        )

    def watch(
        self,
        name: str,
        *,
        encoder: Bundle,
        champion: Bundle,
        window_hours: float = 84.0,
    ) -> tuple[VersionRow, VersionRow]:
        """Register an encoder and a champion, and put a monitor of them into force."""
        with self.database.transaction() as session:
            versions = [
                register(
                    session,
                    bundle,
                    model=model,
                    base=None,
                    origin=Origin.IMPORT,
                    artifact_uri=bundle.root.as_uri(),
                    mlflow_run="none",
                    actor="test",
                    at=self.clock.at,
                )
                for bundle, model in ((encoder, f"{name}-encoder"), (champion, name))
            ]
            put_into_use(session, versions[1], at=self.clock.at)
            apply_monitor(
                session,
                MonitorSpecification.model_validate(
                    {
                        "name": name,
                        "model": name,
                        "task": TASK,
                        "monitoring_encoder": f"{name}-encoder@1",
                        "window_hours": window_hours,
                        "anchor": ANCHOR,
                        "alpha_per_week": 0.005,
                        "subgroup_attributes": ["software_version"],
                        "floor": 20,
                    }
                ),
                actor="test",
                at=self.clock.at,
            )
        return versions[0], versions[1]

    def receive(self, instances: Iterable[Dataset | bytes], *, site: str = SITE) -> list[Fate]:
        """Take instances in together, as a receiver would."""
        files = [one if isinstance(one, bytes) else as_file(one) for one in instances]
        return self.intake.take([self.intake.prepare(file, site=site) for file in files])

    def wait(self, **passed: float) -> None:
        self.clock.at += timedelta(**passed)

    def scans(self, unit: Unit = Unit.SERIES) -> list[ScanRow]:
        """Return the scans of a unit that count."""
        with self.database.reading() as session:
            return list(
                session.scalars(select(ScanRow).where(read_as(unit)).order_by(ScanRow.id))
            )

    def made_of(self, scan: ScanRow) -> AssembledScanRow:
        with self.database.reading() as session:
            return session.get_one(AssembledScanRow, scan.id)

    def members(self, scan: ScanRow) -> list[int]:
        """Return a scan's instances in their order."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(ScanMemberRow.member)
                    .where(ScanMemberRow.scan == scan.id)
                    .order_by(ScanMemberRow.position)
                )
            )

    def count(self, table: type) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def facts(self, kind: str) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            return [entry.facts for entry in ledger.entries(session, kind=kind)]

    def ledger_is_valid(self) -> bool:
        with self.database.reading() as session:
            return ledger.verify(session).valid
