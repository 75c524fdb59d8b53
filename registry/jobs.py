"""The job table: each piece of work once, under a lease, with a fencing token.

A job's key is unique, so work that two schedulers ask for exists once. A
worker holds a job under a lease that it renews; when it stops, another worker
takes the job with a higher token, and whatever the first one still tries to
write is refused, because every write of a job checks the token in its own
transaction (`fence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry.canonical import Json
from registry.database import Base, Database
from registry.errors import LeaseLostError, NotFoundError

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
#: After which a failed job may be tried anew.
RETRY_AFTER = timedelta(hours=1)


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(index=True)
    key: Mapped[str] = mapped_column(unique=True)
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    #: fencing token: grows with every claim
    token: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: why it failed, without patient data
    error: Mapped[str | None]
    #: asked for while it ran: what it read may be older than what it was asked about
    asked_again: Mapped[bool] = mapped_column(default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One worker's hold on one job."""

    job: int
    kind: str
    payload: dict[str, Any]
    token: int
    worker: str
    attempt: int


class JobQueue:
    """Puts jobs into the table, hands them out, and takes them back.

    Leases are real time, whatever clock the domain runs on.
    """

    def __init__(self, database: Database, *, lease: timedelta = LEASE) -> None:
        self._database = database
        self.lease = lease

    def claim(self, worker: str, kinds: list[str]) -> Claim | None:
        """Take the oldest job that waits, or whose worker let its lease run out.

        A job whose workers stopped as often as it may be tried ends as failed.
        """
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            while (job := _next(session, kinds, now)) is not None:
                if job.attempts < MAX_ATTEMPTS:
                    break
                job.state, job.finished_at, job.leased_until = JobState.FAILED, now, None
                job.error = job.error or f"its worker stopped {job.attempts} times"
                session.flush()
            if job is None:
                return None
            job.state, job.worker, job.asked_again = JobState.RUNNING, worker, False
            job.attempts += 1
            job.token += 1
            job.leased_until = now + self.lease
            return Claim(
                job=job.id,
                kind=job.kind,
                payload=job.payload,
                token=job.token,
                worker=worker,
                attempt=job.attempts,
            )

    def renew(self, claim: Claim) -> None:
        """Extend the lease.

        Raises
        ------
        LeaseLostError
            If another worker holds the job now.
        """
        with self._database.transaction() as session:
            fence(session, claim)
            session.execute(
                update(Job)
                .where(Job.id == claim.job)
                .values(leased_until=datetime.now(UTC) + self.lease)
            )

    def finish(self, claim: Claim) -> None:
        """Mark the job done."""
        self._close(claim, JobState.DONE, None)

    def fail(self, claim: Claim, error: str, *, retry: bool) -> None:
        """Give the job back to be tried again, or end it as failed."""
        if retry and claim.attempt < MAX_ATTEMPTS:
            self._close(claim, JobState.QUEUED, error)
        else:
            self._close(claim, JobState.FAILED, error)

    def give_back(self, claim: Claim) -> None:
        """Queue the job anew as if this attempt had not been made."""
        with self._database.transaction() as session:
            fence(session, claim)
            job = session.get_one(Job, claim.job)
            job.state, job.leased_until = JobState.QUEUED, None
            job.attempts -= 1

    def waiting(self, kinds: list[str] | None = None) -> int:
        """Count jobs that are queued or running."""
        query = select(func.count(Job.id)).where(
            Job.state.in_([JobState.QUEUED, JobState.RUNNING])
        )
        if kinds is not None:
            query = query.where(Job.kind.in_(kinds))
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def _close(self, claim: Claim, state: JobState, error: str | None) -> None:
        with self._database.transaction() as session:
            fence(session, claim)
            job = session.get_one(Job, claim.job)
            if job.asked_again and state is not JobState.QUEUED:
                state, error, job.attempts = JobState.QUEUED, None, 0
            job.state, job.error, job.leased_until = state, error, None
            job.finished_at = None if state is JobState.QUEUED else datetime.now(UTC)


def _next(session: Session, kinds: list[str], now: datetime) -> Job | None:
    return session.scalars(
        select(Job)
        .where(
            Job.kind.in_(kinds),
            or_(
                Job.state == JobState.QUEUED,
                (Job.state == JobState.RUNNING) & (Job.leased_until < now),
            ),
        )
        .order_by(Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()


def enqueue(
    session: Session,
    *,
    kind: str,
    key: str,
    payload: dict[str, Json],
    again: bool = False,
    retry: bool = False,
) -> Job:
    """Put a job into the table in the caller's transaction; one of that key exists at most once.

    With `again`, a job of that key that has ended is queued anew, and one that
    runs is queued anew when it ends, since it may have read what was before. With
    `retry`, one that failed an hour ago or more is: what was in its way may be gone.
    Otherwise the existing job is returned as it is.
    """
    job = session.scalars(select(Job).where(Job.key == key)).first()
    if job is None:
        job = _new(kind, key, payload)
        session.add(job)
        session.flush()
    elif (again and job.state in {JobState.DONE, JobState.FAILED}) or (
        retry and _may_retry(job)
    ):
        job.state, job.attempts, job.error, job.payload = JobState.QUEUED, 0, None, payload
        job.finished_at = None
    elif again and job.state == JobState.RUNNING:
        job.asked_again, job.payload = True, payload
    return job


def _may_retry(job: Job) -> bool:
    return (
        job.state == JobState.FAILED
        and job.finished_at is not None
        and datetime.now(UTC) - job.finished_at >= RETRY_AFTER
    )


def enqueue_missing(
    session: Session, *, kind: str, payloads: Mapping[str, dict[str, Json]]
) -> None:
    """Put jobs into the table by their keys; those that exist stay as they are.

    However many there are, the caller holds the others up for one question only.
    """
    known = set(session.scalars(select(Job.key).where(Job.key.in_(payloads))))
    session.add_all(
        _new(kind, key, payload) for key, payload in payloads.items() if key not in known
    )
    session.flush()


def _new(kind: str, key: str, payload: dict[str, Json]) -> Job:
    return Job(
        kind=kind,
        key=key,
        payload=payload,
        state=JobState.QUEUED,
        attempts=0,
        token=0,
        created_at=datetime.now(UTC),
    )


def fence(session: Session, claim: Claim) -> None:
    """Check that the claim still holds: until the end of a transaction that writes.

    Raises
    ------
    LeaseLostError
        If another worker took the job, or the job has ended.
    NotFoundError
        If the job was deleted.
    """
    found = select(Job).where(Job.id == claim.job)
    # PostgreSQL locks no row for a session that only reads.
    if not session.get_bind().get_execution_options().get("read_only"):
        found = found.with_for_update()
    job = session.scalars(found).first()
    if job is None:
        raise NotFoundError(f"job {claim.job} no longer exists")
    if job.token != claim.token or job.state != JobState.RUNNING:
        raise LeaseLostError(
            f"job {claim.job} ({claim.kind}): worker {claim.worker} lost its lease to "
            f"{job.worker}; nothing of its result is kept"
        )
