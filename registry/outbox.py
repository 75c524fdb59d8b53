"""The outbox: what MLflow has yet to be told. Written with the change, delivered after it.

Delivery is idempotent, in order, and stops at the first failure, so that a
later alias never overtakes an earlier one. MLflow knows no fencing tokens: a
worker that was stopped for long may point an alias back after another has
moved it on. It finds that out at once, and has the newest told once more.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry.canonical import sha256
from registry.database import Base, Database
from registry.errors import LeaseLostError
from registry.jobs import Claim, fence
from registry.tracking import Tracking
from registry.versions import VersionRow, ref


class OutboxItem(Base):
    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    #: alias to point at the version; None registers the version alone
    alias: Mapped[str | None]
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None] = mapped_column(index=True)


def champion_alias(deployment: str) -> str:
    """Return the alias under which MLflow shows a deployment's champion.

    An alias has letters, digits, `_` and `-` alone; a site's name that has others is written
    without them, and told from its like by its digest.

    >>> champion_alias("north"), champion_alias("St. Mary's")
    ('champion-north', 'champion-St--Mary-s-e7787f2f')
    """
    if deployment == "everywhere":
        return "champion"
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", deployment)
    if plain != deployment:
        plain = f"{plain}-{sha256(deployment.encode())[:8]}"
    return f"champion-{plain}"


def put_version(session: Session, version: VersionRow, *, at: datetime) -> None:
    """Ask that MLflow's registry hold this version."""
    session.add(OutboxItem(version=version.id, created_at=at))


def put_alias(session: Session, version: VersionRow, *, alias: str, at: datetime) -> None:
    """Ask that MLflow's alias point at this version."""
    session.add(OutboxItem(version=version.id, alias=alias, created_at=at))


def waiting(database: Database) -> int:
    """Count what MLflow has yet to be told."""
    query = select(func.count(OutboxItem.id)).where(OutboxItem.delivered_at.is_(None))
    with database.reading() as session:
        return session.scalar(query) or 0


def deliver(database: Database, tracking: Tracking, *, claim: Claim | None = None) -> int:
    """Tell MLflow what it has yet to be told, and return how many items that were.

    Parameters
    ----------
    claim : the job for which this is done

    Raises
    ------
    LeaseLostError
        If another worker holds the job now.
    """
    count = 0
    while (item := _next(database, claim)) is not None:
        row, version = item
        number = version.mlflow_version or tracking.create_version(
            version.model,
            artifact_uri=version.artifact_uri,
            run_id=version.mlflow_run,
            tags={"driftward.version": str(ref(version)), "digest": version.bundle_digest},
        )
        if row.alias is not None:
            tracking.set_alias(version.model, row.alias, number)
        try:
            with database.transaction() as session:
                if claim is not None:
                    fence(session, claim)
                session.get_one(OutboxItem, row.id).delivered_at = datetime.now(UTC)
                session.get_one(VersionRow, version.id).mlflow_version = number
        except LeaseLostError:
            if row.alias is not None:
                _tell_newest_again(database, version.model, row.alias)
            raise
        count += 1
    return count


def _next(database: Database, claim: Claim | None) -> tuple[OutboxItem, VersionRow] | None:
    with database.reading() as session:
        if claim is not None:
            fence(session, claim)
        row = session.scalars(
            select(OutboxItem)
            .where(OutboxItem.delivered_at.is_(None))
            .order_by(OutboxItem.id)
            .limit(1)
        ).first()
        return (row, session.get_one(VersionRow, row.version)) if row else None


def _tell_newest_again(database: Database, model: str, alias: str) -> None:
    with database.transaction() as session:
        newest = session.scalars(
            select(OutboxItem)
            .join(VersionRow, VersionRow.id == OutboxItem.version)
            .where(VersionRow.model == model, OutboxItem.alias == alias)
            .order_by(OutboxItem.id.desc())
            .limit(1)
        ).one()
        version = session.get_one(VersionRow, newest.version)
        put_alias(session, version, alias=alias, at=datetime.now(UTC))
