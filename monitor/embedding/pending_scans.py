"""Which scans a monitor's versions have yet to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from monitor.assembling.counting import not_withdrawn, unit_watched
from monitor.embedding.embedding_plan import ReadingVersion
from monitor.monitors import Monitor
from monitor.tables import EmbeddingRow, RefusalRow, ScanRow
from monitor.windows import Window
from registry import serving
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.versions import find


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Scans that neither a refusal nor the monitoring encoder has dealt with."""

    scans: int
    oldest_arrived_at: datetime | None


def backlog(session: Session, monitor: Monitor) -> Backlog:
    """Return what a monitor has yet to read."""
    fixed = find(session, monitor.specification.monitoring_encoder)
    waiting = _unread(session, monitor, [fixed.id], None, None)
    return Backlog(
        scans=len(waiting),
        oldest_arrived_at=min((scan.arrived_at for scan in waiting), default=None),
    )


def count_pending(session: Session, monitor: Monitor) -> int:
    """Count scans that neither a refusal nor the monitoring encoder has dealt with."""
    return backlog(session, monitor).scans


def pending_scans(
    session: Session,
    monitor: Monitor,
    versions: Sequence[ReadingVersion],
    window: Window | None,
    only: Sequence[int] | None,
) -> list[ScanRow]:
    return _unread(
        session,
        monitor,
        [reader.version.id for reader in versions if not reader.beside],
        window,
        only,
        beside=[reader for reader in versions if reader.beside],
    )


def _unread(
    session: Session,
    monitor: Monitor,
    versions: Sequence[int],
    window: Window | None,
    only: Sequence[int] | None,
    beside: Sequence[ReadingVersion] = (),
) -> list[ScanRow]:
    refused = exists().where(
        RefusalRow.scan == ScanRow.id, RefusalRow.model == monitor.specification.model
    )
    times_read = (
        select(func.count(EmbeddingRow.id))
        .where(EmbeddingRow.scan == ScanRow.id, EmbeddingRow.version.in_(versions))
        .scalar_subquery()
    )
    unit = unit_watched(session, monitor)
    unread: list[ColumnElement[bool]] = [times_read < len(versions)]
    for reader in beside:
        read = exists().where(
            EmbeddingRow.scan == ScanRow.id, EmbeddingRow.version == reader.version.id
        )
        unread.append(and_(reader.where(), ~read))
    query = (
        select(ScanRow)
        .where(ScanRow.unit == unit.value, ~refused, or_(*unread))
        .order_by(ScanRow.id)
    )
    if only is None:
        # What a dataset holds is read whatever became of it since.
        query = query.where(not_withdrawn())
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


def without_embedding(
    session: Session, reader: ReadingVersion, scans: Sequence[ScanRow]
) -> set[int]:
    ids = {scan.id for scan in scans if reader.is_for(scan)}
    read = session.scalars(
        select(EmbeddingRow.scan).where(
            EmbeddingRow.version == reader.version.id, EmbeddingRow.scan.in_(ids)
        )
    )
    return ids - set(read)


def intended_use(
    session: Session,
    bundles: BundleStore,
    monitor: Monitor,
    versions: Sequence[ReadingVersion],
    site: str = serving.EVERYWHERE,
) -> Bundle:
    """Return the bundle whose intended use counts at a site.

    It is that of the champion there, or of the encoder before there is one.
    """
    champion = serving.champion(session, monitor.specification.model, site)
    return bundles.open(champion) if champion is not None else versions[0].bundle
