"""The outbox: what MLflow has yet to be told. Written with the change, delivered after it.

Delivery is idempotent, in order, and stops at the first failure, so that a
later alias never overtakes an earlier one; it is tried again after a while,
and later each time, since an MLflow that hangs holds a worker up. MLflow knows no fencing tokens: a
worker that was stopped for long may point an alias back after another has
moved it on. It finds that out at once, and has the newest told once more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import crash_points
from registry.canonical import sha256
from registry.database import Base, Database
from registry.errors import LeaseLostError, TrackingError
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
    #: how often MLflow was told in vain
    failures: Mapped[int] = mapped_column(default=0)
    #: the last time that it was, by the real clock
    failed_at: Mapped[datetime | None]
    #: why, without patient data
    error: Mapped[str | None]


#: After the first failure MLflow is left alone for as long, then for twice as long each time.
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What MLflow has yet to be told."""

    #: changes
    waiting: int
    #: when the oldest of them was made
    since: datetime
    #: how often the oldest was told in vain
    failures: int
    #: when it is told again, by the real clock; None where it never failed
    next_try: datetime | None
    #: why it could not be told; None where it was not tried
    error: str | None

    def is_due(self, now: datetime) -> bool:
        """Return whether it is time to tell MLflow, by the real clock."""
        return self.next_try is None or self.next_try <= now

    def __str__(self) -> str:
        changes = "1 change waits" if self.waiting == 1 else f"{self.waiting} changes wait"
        said = f"{changes} to be told, since {self.since:%Y-%m-%d %H:%M} UTC"
        if self.error is None or self.next_try is None:
            return said
        times = "once" if self.failures == 1 else f"{self.failures} times"
        return (
            f"{said}; tried {times} in vain ({self.error}), again from "
            f"{self.next_try:%Y-%m-%d %H:%M:%S} UTC"
        )


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


def backlog(session: Session) -> Backlog | None:
    """Return what MLflow has yet to be told; None where it knows everything."""
    waits = OutboxItem.delivered_at.is_(None)
    waiting, since = session.execute(
        select(func.count(OutboxItem.id), func.min(OutboxItem.created_at)).where(waits)
    ).one()
    if not waiting:
        return None
    first = session.scalars(
        select(OutboxItem).where(waits).order_by(OutboxItem.id).limit(1)
    ).one()
    return Backlog(
        waiting=waiting,
        since=since,
        failures=first.failures,
        next_try=first.failed_at and first.failed_at + _pause(first.failures),
        error=first.error,
    )


def _pause(failures: int) -> timedelta:
    """Return how long MLflow is left alone.

    >>> [str(_pause(failures)) for failures in (1, 2, 5, 6, 1000)]
    ['0:00:30', '0:01:00', '0:08:00', '0:15:00', '0:15:00']
    """
    doublings = min(failures, 10) - 1
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def deliver(database: Database, tracking: Tracking, *, claim: Claim | None = None) -> int:
    """Tell MLflow what it has yet to be told, and return how many items that were.

    Parameters
    ----------
    claim : the job for which this is done

    Raises
    ------
    LeaseLostError
        If another worker holds the job now.
    TrackingError
        If MLflow could not be told; the item says so, and when it is tried again.
    """
    count = 0
    while (item := _next(database, claim)) is not None:
        row, version = item
        try:
            number = _tell(tracking, row, version)
        except TrackingError as error:
            _note_failure(database, row, error)
            raise
        crash_points.reach("outbox: told")
        try:
            with database.transaction() as session:
                if claim is not None:
                    fence(session, claim)
                told = session.get_one(OutboxItem, row.id)
                told.delivered_at, told.error = datetime.now(UTC), None
                session.get_one(VersionRow, version.id).mlflow_version = number
                crash_points.reach("outbox: before the commit")
        except LeaseLostError:
            if row.alias is not None:
                _tell_newest_again(database, version.model, row.alias)
            raise
        crash_points.reach("outbox: committed")
        count += 1
    return count


def _tell(tracking: Tracking, row: OutboxItem, version: VersionRow) -> str:
    """Tell MLflow of one item, and return its number for the version."""
    number = version.mlflow_version or tracking.create_version(
        version.model,
        artifact_uri=version.artifact_uri,
        run_id=version.mlflow_run,
        tags={"driftward.version": str(ref(version)), "digest": version.bundle_digest},
    )
    crash_points.reach("outbox: version made")
    if row.alias is not None:
        tracking.set_alias(version.model, row.alias, number)
    return number


def _note_failure(database: Database, row: OutboxItem, error: TrackingError) -> None:
    with database.transaction() as session:
        item = session.get_one(OutboxItem, row.id)
        item.failures += 1
        item.failed_at, item.error = datetime.now(UTC), str(error)


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
