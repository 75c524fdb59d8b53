"""Building a monitor's first references: choose scans, embed, fit, accept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from monitor import references
from monitor.assembling.counting import read_as, unit_watched
from monitor.embedding.embedding import Embedder
from monitor.monitors import require_monitor
from monitor.references import EncoderRole, ProfileStore
from monitor.tables import ReferenceRow, RefusalRow, ScanRow
from registry import crash_points, serving
from registry.database import Database
from registry.identities import Identity, Role
from registry.versions import find


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltReferences:
    """References that were accepted."""

    references: tuple[ReferenceRow, ...]
    scans: int
    patients: int


def build_references(
    database: Database,
    embedder: Embedder,
    store: ProfileStore,
    monitor_name: str,
    *,
    since: datetime | None,
    until: datetime | None,
    by: Identity,
    at: datetime,
    seed: int = 0,
) -> BuiltReferences:
    """Build and accept references of both encoders from the scans of a span.

    Scans outside the intended use, and scans of patients that trained either
    encoder, are left out.

    Raises
    ------
    InsufficientReferenceError
        If too few scans are left.
    """
    by.require(Role.OPERATOR, "accept a reference")
    embedder.assemble(monitor_name)
    with database.reading() as session:
        monitor = require_monitor(session, monitor_name)
        champion = serving.require_champion(session, monitor.specification.model)
        fixed = find(session, monitor.specification.monitoring_encoder)
        query = (
            select(ScanRow).where(read_as(unit_watched(session, monitor))).order_by(ScanRow.id)
        )
        if since is not None:
            query = query.where(ScanRow.arrived_at >= since)
        if until is not None:
            query = query.where(ScanRow.arrived_at < until)
        chosen = references.eligible(session, list(session.scalars(query)), [champion, fixed])
    embedder.embed(monitor_name, only=[scan.id for scan in chosen])
    crash_points.reach("reference: embedded")
    with database.transaction() as session:
        refused = set(
            session.scalars(select(RefusalRow.scan).where(RefusalRow.model == champion.model))
        )
        accepted = [scan for scan in chosen if scan.id not in refused]
        dataset = references.freeze_reference(
            session,
            accepted,
            description=f"first reference of {monitor_name}",
            actor=by.name,
            at=at,
        )
    crash_points.reach("reference: frozen")
    with database.reading() as session:
        fitted = [
            references.fit(
                session,
                store,
                dataset=dataset.id,
                encoder=role,
                version=version,
                attributes=monitor.specification.subgroup_attributes,
                seed=seed,
            )
            for role, version in (
                (EncoderRole.MONITORING, fixed),
                (EncoderRole.CHAMPION, champion),
            )
        ]
    crash_points.reach("reference: fitted")
    with database.transaction() as session:
        rows = references.accept(
            session,
            monitor,
            fitted,
            dataset=dataset,
            reason="first reference",
            actor=by.name,
            at=at,
        )
        crash_points.reach("reference: before the commit")
    crash_points.reach("reference: committed")
    return BuiltReferences(
        references=tuple(rows), scans=dataset.scans, patients=dataset.patients
    )
