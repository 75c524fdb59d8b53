"""Embedding: every scan of a monitor by its champion and its monitoring encoder.

A scan is read from the vault and decoded once, prepared for each encoder, and
embedded in batches. Embeddings, results, refusals and their ledger entry are
written in one transaction a batch, behind the job's fence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from monitor.embeddings import to_bytes
from monitor.intake.vault import Vault
from monitor.monitors import Monitor, require_monitor
from monitor.pixel_measures import pixel_measures
from monitor.pixels import decode, prepare, rendered
from monitor.subgroups import Subgroup
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger, serving
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.clock import Clock
from registry.database import Database
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import VersionRow, find, ref

if TYPE_CHECKING:
    from monitor.encoders import Encoded, Encoder

BATCH = 64
#: Batches that one transaction writes: each costs one fsync.
BATCHES_PER_COMMIT = 4

#: Told after each commit: how many scans are done, out of how many.
Tell: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingVersion:
    """A version that reads scans for a monitor."""

    version: VersionRow
    bundle: Bundle
    encoder: Encoder
    serves: bool


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What one transaction will write."""

    refusals: list[tuple[ScanRow, str]] = field(default_factory=list)
    read: list[tuple[ReadingVersion, Sequence[ScanRow], Encoded]] = field(default_factory=list)


class Embedder:
    """Embeds what has not been embedded yet."""

    def __init__(
        self,
        database: Database,
        bundles: BundleStore,
        vault: Vault,
        clock: Clock,
        *,
        device: str,
        threads: int,
    ) -> None:
        self._database = database
        self._bundles = bundles
        self._vault = vault
        self._clock = clock
        self._device = device
        self._threads = threads
        self._encoders: dict[str, Encoder] = {}

    def encoder(self, version: VersionRow) -> Encoder:
        """Return the loaded encoder of a version."""
        if version.bundle_digest not in self._encoders:
            from monitor.encoders import load_encoder

            self._encoders[version.bundle_digest] = load_encoder(
                self._bundles.open(version), device=self._device, threads=self._threads
            )
        return self._encoders[version.bundle_digest]

    def handle(self, claim: Claim) -> None:
        """Do the job `embed`: payload {monitor}."""
        self.embed(claim.payload["monitor"], claim=claim)

    def embed(
        self,
        monitor_name: str,
        *,
        window: Window | None = None,
        extra: Sequence[VersionRow] = (),
        only: Sequence[int] | None = None,
        claim: Claim | None = None,
        tell: Tell | None = None,
    ) -> int:
        """Embed a monitor's pending scans, and return how many were read.

        Parameters
        ----------
        window : only what arrived in it
        extra : versions that read besides champion and monitoring encoder, in the background
        only : only these scans, by id
        claim : the job for which this is done; each write checks that it still holds
        tell : called after each commit
        """
        with self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            versions = self._versions(session, monitor, extra)
            pending = _pending(session, monitor, versions, window, only)
        done = 0
        for chunk in _chunks(pending, BATCH * BATCHES_PER_COMMIT):
            self._write(monitor, self._read(monitor, versions, chunk), claim)
            done += len(chunk)
            if tell is not None:
                tell(done, len(pending))
        return done

    def probabilities(
        self, version: VersionRow, scans: Sequence[ScanRow], task: str
    ) -> npt.NDArray[np.float64]:
        """Return the probability of a task's positive class for each scan, without storing it."""
        encoder = self.encoder(version)
        parts = [
            encoder.embed(self.pixels(self._bundles.open(version), chunk)).probabilities[task][
                :, -1
            ]
            for chunk in _chunks(scans, BATCH)
        ]
        return np.concatenate(parts).astype(np.float64)

    def pixels(self, bundle: Bundle, scans: Sequence[ScanRow]) -> npt.NDArray[np.float32]:
        """Return scans as a bundle's encoder reads them, float32 [n, 3, h, w]."""
        return np.stack([prepare(self._decoded(scan), bundle.preprocessing) for scan in scans])

    def measures(
        self, version: VersionRow, scans: Sequence[ScanRow]
    ) -> npt.NDArray[np.float64]:
        """Return the pixel measures of scans as a version's encoder is shown them, [n, m].

        Raises
        ------
        NotFoundError
            If a scan's pixels are no longer kept.
        BadInputError
            If the encoder reads images that are too small to be measured.
        """
        preprocessing = self._bundles.open(version).preprocessing
        return np.concatenate(
            [
                pixel_measures(
                    np.stack(
                        [
                            rendered(self._decoded(scan), preprocessing).mean(axis=0)
                            for scan in chunk
                        ]
                    )
                )
                for chunk in _chunks(scans, BATCH)
            ]
        )

    def _decoded(self, scan: ScanRow):  # type: ignore[no-untyped-def]
        return decode(self._vault.dataset(scan.vault_digest))

    def _versions(
        self, session: Session, monitor: Monitor, extra: Sequence[VersionRow]
    ) -> list[ReadingVersion]:
        fixed = find(session, monitor.specification.monitoring_encoder)
        champion = serving.champion(session, monitor.specification.model)
        wanted = {row.id: row for row in (fixed, champion, *extra) if row is not None}
        return [
            ReadingVersion(
                version=row,
                bundle=self._bundles.open(row),
                encoder=self.encoder(row),
                serves=champion is not None and row.id == champion.id,
            )
            for row in wanted.values()
        ]

    def _read(
        self, monitor: Monitor, versions: Sequence[ReadingVersion], scans: Sequence[ScanRow]
    ) -> _Batch:
        batch = _Batch()
        with self._database.reading() as session:
            use = _intended_use(session, self._bundles, monitor, versions)
            missing = {
                reader.version.id: _without_embedding(session, reader.version.id, scans)
                for reader in versions
            }
        accepted: list[ScanRow] = []
        for scan in scans:
            reason = use.card.intended_use.refusal(
                modality=scan.modality,
                body_part=scan.body_part,
                view=scan.view,
                age_years=scan.age_years,
            )
            if reason is None:
                accepted.append(scan)
            else:
                batch.refusals.append((scan, reason))
        for chunk in _chunks(accepted, BATCH):
            images = {scan.id: self._decoded(scan) for scan in chunk}
            for reader in versions:
                todo = [scan for scan in chunk if scan.id in missing[reader.version.id]]
                if todo:
                    pixels = np.stack(
                        [prepare(images[scan.id], reader.bundle.preprocessing) for scan in todo]
                    )
                    batch.read.append((reader, todo, reader.encoder.embed(pixels)))
        return batch

    def _write(self, monitor: Monitor, batch: _Batch, claim: Claim | None) -> None:
        now = self._clock.now()
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            number = 1 + max(
                session.scalar(select(func.max(table.batch))) or 0
                for table in (EmbeddingRow, ResultRow, RefusalRow)
            )
            withheld = serving.restrictions(session, monitor.specification.model)
            subgroups = [Subgroup.parse(row.subgroup) for row in withheld if row.subgroup]
            suspended = any(row.subgroup is None for row in withheld)
            since = serving.serving_since(session, monitor.specification.model)
            for reader, scans, encoded in batch.read:
                for index, scan in enumerate(scans):
                    session.add(
                        EmbeddingRow(
                            batch=number,
                            scan=scan.id,
                            version=reader.version.id,
                            space=reader.version.space,
                            vector=to_bytes(encoded.embeddings[index]),
                        )
                    )
                    held = suspended or any(group.holds(scan) for group in subgroups)
                    delivery = "withheld" if held else "delivered"
                    # A result computed for a scan that came before this version
                    # served was never meant for its reader.
                    if not reader.serves or since is None or scan.arrived_at < since:
                        delivery = "background"
                    for task in reader.bundle.tasks:
                        session.add(
                            ResultRow(
                                batch=number,
                                scan=scan.id,
                                version=reader.version.id,
                                task=task.name,
                                probabilities=[
                                    float(p) for p in encoded.probabilities[task.name][index]
                                ],
                                threshold=task.threshold,
                                delivery=delivery,
                                created_at=now,
                            )
                        )
            for scan, reason in batch.refusals:
                session.add(
                    RefusalRow(
                        batch=number,
                        scan=scan.id,
                        model=monitor.specification.model,
                        reason=reason,
                        created_at=now,
                    )
                )
            read = {str(ref(reader.version)): 0 for reader, *_ in batch.read}
            for reader, scans, _ in batch.read:
                read[str(ref(reader.version))] += len(scans)
            ledger.append(
                session,
                at=now,
                actor=SYSTEM.name,
                kind="scans.read",
                subject=monitor.name,
                facts={"read": dict(read), "refused": len(batch.refusals)},
                batches=[(table, number) for table in (EmbeddingRow, ResultRow, RefusalRow)],
            )


def count_pending(session: Session, monitor: Monitor) -> int:
    """Count scans that neither a refusal nor the monitoring encoder has dealt with."""
    fixed = find(session, monitor.specification.monitoring_encoder)
    return len(_unread(session, monitor, [fixed.id], None, None))


def _pending(
    session: Session,
    monitor: Monitor,
    versions: Sequence[ReadingVersion],
    window: Window | None,
    only: Sequence[int] | None,
) -> list[ScanRow]:
    ids = [reader.version.id for reader in versions]
    return _unread(session, monitor, ids, window, only)


def _unread(
    session: Session,
    monitor: Monitor,
    versions: Sequence[int],
    window: Window | None,
    only: Sequence[int] | None,
) -> list[ScanRow]:
    refused = exists().where(
        RefusalRow.scan == ScanRow.id, RefusalRow.model == monitor.specification.model
    )
    times_read = (
        select(func.count(EmbeddingRow.id))
        .where(EmbeddingRow.scan == ScanRow.id, EmbeddingRow.version.in_(versions))
        .scalar_subquery()
    )
    query = select(ScanRow).where(~refused, times_read < len(versions)).order_by(ScanRow.id)
    since = serving.serving_since(session, monitor.specification.model)
    if window is None and only is None and since is not None:
        # What arrived before the champion served is not its to read: the fixed
        # encoder alone must have seen it.
        fixed = find(session, monitor.specification.monitoring_encoder)
        seen = exists().where(EmbeddingRow.scan == ScanRow.id, EmbeddingRow.version == fixed.id)
        query = query.where(or_(~seen, ScanRow.arrived_at >= since))
    if window is not None:
        query = query.where(ScanRow.arrived_at >= window.start, ScanRow.arrived_at < window.end)
    if only is not None:
        query = query.where(ScanRow.id.in_(list(only)))
    return list(session.scalars(query))


def _without_embedding(session: Session, version: int, scans: Sequence[ScanRow]) -> set[int]:
    ids = {scan.id for scan in scans}
    read = session.scalars(
        select(EmbeddingRow.scan).where(
            EmbeddingRow.version == version, EmbeddingRow.scan.in_(ids)
        )
    )
    return ids - set(read)


def _intended_use(
    session: Session, bundles: BundleStore, monitor: Monitor, versions: Sequence[ReadingVersion]
) -> Bundle:
    """Return the bundle whose intended use counts: the champion's, before it the encoder's."""
    champion = serving.champion(session, monitor.specification.model)
    return bundles.open(champion) if champion is not None else versions[0].bundle


def _chunks(scans: Sequence[ScanRow], size: int) -> Iterator[list[ScanRow]]:
    iterator = iter(scans)
    while chunk := list(islice(iterator, size)):
        yield chunk
