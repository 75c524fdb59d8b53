"""A monitored model whose scans are numbers: rows as intake and embedding would leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from first_champion import put_into_use
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import references
from monitor.embeddings import to_bytes
from monitor.monitors import (
    Monitor,
    MonitorSpecification,
    apply_monitor,
    require_monitor,
)
from monitor.references import EncoderRole, ProfileStore
from monitor.tables import EmbeddingRow, ReferenceRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.database import Database
from registry.versions import ModelRow, VersionRow, find

DIMENSION = 12
HALF_WEEK = timedelta(hours=84)


ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)


def found(database: Database) -> None:
    """Register a general encoder, a champion and a monitor of it."""
    with database.transaction() as session:
        _version(session, "general", "general")
        champion = _version(session, "pneumonia", "task")
        put_into_use(session, champion, at=ANCHOR)
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": "chest",
                    "model": "pneumonia",
                    "task": "pneumonia",
                    "monitoring_encoder": "general@1",
                    "window_hours": 84,
                    "anchor": ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": ["software_version", "view"],
                    "floor": 20,
                }
            ),
            actor="test",
            at=ANCHOR,
        )


class History:
    """Adds scans and embeddings to a database, and keeps what tests ask for."""

    def __init__(self, database: Database, profiles: ProfileStore) -> None:
        self.database, self.profiles, self.anchor = database, profiles, ANCHOR
        with database.reading() as session:
            self.encoder = find(session, "general@1")
            self.champion = find(session, "pneumonia@1")
            self.monitor: Monitor = require_monitor(session, "chest")
            self._batch = session.scalar(select(func.max(ScanRow.batch))) or 0
        self.rng = np.random.default_rng(5 + self._batch)

    def window(self, number: int) -> Window:
        start = self.anchor + number * HALF_WEEK
        return Window(start=start, end=start + HALF_WEEK)

    def add(
        self,
        count: int,
        *,
        at: datetime,
        shift: float = 0.0,
        software_version: str = "1.0",
        site: str = "site",
        truth: Sequence[int] | None = None,
        probabilities: Sequence[float] | None = None,
        finding: int | None = None,
        delivery: str = "delivered",
        every: timedelta = timedelta(0),
    ) -> list[int]:
        """Add scans of new patients, embedded by both encoders; returns their ids.

        `every` lies between one and the next; `finding` is the class whose probability is given.
        """
        self._batch += 1
        vectors = self.rng.normal(shift, 1.0, size=(count, DIMENSION)).astype(np.float32)
        with self.database.transaction() as session:
            scans = [
                self._scan(number, at + number * every, software_version, site)
                for number in range(count)
            ]
            session.add_all(scans)
            session.flush()
            self._embed(session, scans, vectors)
            if probabilities is not None:
                session.add_all(
                    ResultRow(
                        batch=self._batch,
                        scan=scan.id,
                        version=self.champion.id,
                        task="pneumonia",
                        probabilities=[value, 1 - value]
                        if finding == 0
                        else [1 - value, value],
                        finding=finding,
                        threshold=0.5,
                        delivery=delivery,
                        created_at=at + HALF_WEEK,
                    )
                    for scan, value in zip(scans, probabilities, strict=True)
                )
            ledger.append(
                session,
                at=at,
                actor="test",
                kind="scans.read",
                subject="chest",
                facts={},
                batches=[(table, self._batch) for table in (ScanRow, EmbeddingRow, ResultRow)],
            )
        return [scan.id for scan in scans]

    def watch(self, *attributes: str) -> None:
        """Let the monitor test the subgroups of other attributes."""
        specification = self.monitor.specification.model_dump(mode="json")
        specification["subgroup_attributes"] = attributes
        with self.database.transaction() as session:
            self.monitor = apply_monitor(
                session,
                MonitorSpecification.model_validate(specification),
                actor="test",
                at=self.anchor,
            )

    def accept_reference(
        self, count: int = 400, *, shifts: Mapping[str, float] = MappingProxyType({"site": 0.0})
    ) -> list[ReferenceRow]:
        """Add a reference before the anchor, so many scans a site, for both encoders."""
        for site, shift in shifts.items():
            self.add(count, at=self.anchor - timedelta(days=7), site=site, shift=shift)
        with self.database.transaction() as session:
            scans = references.eligible(
                session, session.scalars(select(ScanRow)).all(), [self.champion, self.encoder]
            )
            dataset = references.freeze_reference(
                session, scans, description="test", actor="test", at=self.anchor
            )
        with self.database.reading() as session:
            fitted = [
                references.fit(
                    session,
                    self.profiles,
                    dataset=dataset.id,
                    encoder=role,
                    version=version,
                    attributes=self.monitor.specification.subgroup_attributes,
                    seed=0,
                )
                for role, version in (
                    (EncoderRole.MONITORING, self.encoder),
                    (EncoderRole.CHAMPION, self.champion),
                )
            ]
        with self.database.transaction() as session:
            return references.accept(
                session,
                self.monitor,
                fitted,
                dataset=dataset,
                reason="test",
                actor="test",
                at=self.anchor,
            )

    def _scan(self, number: int, at: datetime, software_version: str, site: str) -> ScanRow:
        name = f"{self._batch}-{number}"
        return ScanRow(
            batch=self._batch,
            site=site,
            patient=f"patient-{name}",
            study=f"study-{name}",
            series=f"series-{name}",
            instance=f"instance-{name}",
            vault_digest=f"vault-{name}",
            pixel_digest=f"pixels-{name}",
            modality="DX",
            view="AP",
            manufacturer="Maker",
            scanner_model="Model",
            software_version=software_version,
            arrived_at=at,
        )

    def _embed(
        self, session: Session, scans: Sequence[ScanRow], vectors: npt.NDArray[np.float32]
    ) -> None:
        for version in (self.encoder, self.champion):
            session.add_all(
                EmbeddingRow(
                    batch=self._batch,
                    scan=scan.id,
                    version=version.id,
                    space=version.space,
                    vector=to_bytes(vector),
                )
                for scan, vector in zip(scans, vectors, strict=True)
            )


def _version(session: Session, model: str, tier: str) -> VersionRow:
    owner = ModelRow(name=model, tier=tier, created_at=ANCHOR)
    session.add(owner)
    session.flush()
    row = VersionRow(
        model=model,
        number=1,
        tier=tier,
        origin="import",
        bundle_digest=model,
        encoder_digest=model,
        space=f"space of {model}",
        dimension=DIMENSION,
        card={"training_data": []},
        artifact_uri="file:///nowhere",
        mlflow_run="run",
        created_at=ANCHOR,
        created_by="test",
    )
    session.add(row)
    ledger.append(
        session,
        at=ANCHOR,
        actor="test",
        kind="version.registered",
        subject=model,
        facts={},
        seals=[owner, row],
    )
    return row
