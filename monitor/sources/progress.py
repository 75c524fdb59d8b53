"""How far a source has been read: kept under a lease, after what it covers is durable."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from monitor.assembling.counting import settlings
from monitor.assembling.stability import StableGroup, note_stable
from monitor.embedding.stage_times import Stage, observe
from monitor.sources.tables import SourceFileRow, SourceProgressRow, SourceRow
from registry import crash_points
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.errors import LeaseLostError

LEASE = timedelta(seconds=60)
#: A look that found nothing is written down at most so often.
_QUIET = timedelta(seconds=15)
_LONGEST_ERROR = 500


class RoadOutcome(StrEnum):
    """What became of an instance that a source offered."""

    ADDED = "added"
    KNOWN = "known"
    QUARANTINED = "quarantined"
    FOLLOWED = "followed"  #: a document that rejects instances; they count no more
    GONE = "gone"  #: deleted at the source before it was fetched
    REFUSED = "refused"  #: not taken, and the sender was told so


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Some of what a source has, dealt with: durable before it is handed on."""

    #: from where reading goes on; None where it is as before
    position: dict[str, Json] | None = None
    counts: Mapping[RoadOutcome, int] = field(default_factory=dict)
    #: what is there and not yet read; None where that is not known
    backlog: int | None = None
    oldest_unread_at: datetime | None = None
    #: the feed turned out to be another one, or cleared
    began_anew: bool = False
    #: files that stay where they are: their keyed digest, and their state
    files: Sequence[tuple[str, str]] = ()
    #: series and studies that are complete, all of it being durable
    stable: Sequence[StableGroup] = ()

    @property
    def idle(self) -> bool:
        """Whether it says that nothing new was there."""
        said = self.counts or self.files or self.backlog or self.began_anew or self.stable
        return not said


def add_counts(
    session: Session,
    source: str,
    counts: Mapping[RoadOutcome, int],
    *,
    seconds: Sequence[float],
    at: datetime,
) -> None:
    """Count what came by a source that is not followed, in the caller's transaction.

    Parameters
    ----------
    seconds : that instances took from being whole to being durable
    """
    observe(session, Stage.STORE, source, seconds)
    row = _locked(session, source)
    row.counts = _sum(row.counts, counts)
    row.last_success_at = at


class Hold:
    """One follower's hold on a source: no other follows it meanwhile.

    Leases are real time, whatever clock the domain runs on.
    """

    def __init__(self, database: Database, clock: Clock, source: str, token: int) -> None:
        self._database = database
        self._clock = clock
        self.source = source
        self._token = token
        self._seconds: list[float] = []

    def took(self, seconds: float) -> None:
        """Note what an instance took; it is counted with the step that keeps it."""
        self._seconds.append(seconds)

    def position(self) -> dict[str, Json]:
        """Return from where reading goes on; empty at the beginning. Raises as `keep` does."""
        with self._database.reading() as session:
            row = session.get_one(SourceProgressRow, self.source)
            self._require_hold(session, row)
            found: dict[str, Json] = row.position
            return found

    def keep(self, step: Step) -> None:
        """Keep a step: from now on what it covers is not read again.

        Raises
        ------
        LeaseLostError
            If another follows the source now, or it is no longer in force.
        """
        now = self._clock.now()
        if step.idle and self._was_quiet(step, now):
            return
        with self._database.transaction() as session:
            row = self._fenced(session)
            if step.position is not None:
                row.position = step.position
            row.counts = _sum(row.counts, step.counts)
            row.backlog, row.oldest_unread_at = step.backlog, step.oldest_unread_at
            row.last_success_at = now
            row.failing_since = row.last_error = None
            if step.began_anew:
                row.began_anew_at = now
            for file, state in step.files:
                session.merge(SourceFileRow(source=self.source, file=file, state=state))
            note_stable(session, step.stable, at=now)
            observe(session, Stage.STORE, self.source, self._seconds)
        self._seconds.clear()
        crash_points.reach("source: position kept")

    def failed(self, error: str) -> None:
        """Keep that a look failed.

        Parameters
        ----------
        error : a sentence without patient data or credentials
        """
        with self._database.transaction() as session:
            row = self._fenced(session)
            row.failing_since = row.failing_since or self._clock.now()
            row.last_error = error[:_LONGEST_ERROR]

    def known_files(self, files: Sequence[str]) -> dict[str, str]:
        """Return the state of each of these files that is known, by its digest."""
        of_these = (SourceFileRow.source == self.source) & SourceFileRow.file.in_(files)
        with self._database.reading() as session:
            rows = session.scalars(select(SourceFileRow).where(of_these))
            return {row.file: row.state for row in rows}

    def forget_files_beside(self, files: set[str]) -> None:
        """Forget files that are no longer there."""
        own = SourceFileRow.source == self.source
        with self._database.reading() as session:
            if session.scalar(select(func.count()).where(own)) == len(files):
                return
            gone = [
                file
                for file in session.scalars(select(SourceFileRow.file).where(own))
                if file not in files
            ]
        for start in range(0, len(gone), 500):
            some = SourceFileRow.file.in_(gone[start : start + 500])
            with self._database.transaction() as session:
                self._fenced(session)
                session.execute(delete(SourceFileRow).where(own & some))

    def series_are_read(self) -> bool:
        """Say whether any model reads series or studies, so that it matters when they are whole."""
        with self._database.reading() as session:
            return bool(settlings(session))

    def require(self, session: Session) -> None:
        """Raise as `keep` does, and keep the hold until the caller's transaction ends.

        So nothing is stored by a specification that was replaced while it was fetched.
        """
        self._fenced(session)

    def renew(self) -> None:
        """Extend the lease; raises as `keep` does."""
        with self._database.transaction() as session:
            self._fenced(session).held_until = datetime.now(UTC) + LEASE

    def release(self) -> None:
        """Let another follow the source at once."""
        with self._database.transaction() as session:
            row = _locked(session, self.source)
            if row.token == self._token:
                row.holder = row.held_until = None

    def _was_quiet(self, step: Step, now: datetime) -> bool:
        with self._database.reading() as session:
            row = session.get_one(SourceProgressRow, self.source)
            return (
                row.token == self._token
                and row.failing_since is None
                and not row.backlog
                and row.position == (row.position if step.position is None else step.position)
                and row.last_success_at is not None
                and now - row.last_success_at < _QUIET
            )

    def _fenced(self, session: Session) -> SourceProgressRow:
        row = _locked(session, self.source)
        self._require_hold(session, row)
        return row

    def _require_hold(self, session: Session, row: SourceProgressRow) -> None:
        if row.token != self._token:
            raise LeaseLostError(f"source {self.source} was changed, or another follows it")
        if session.get_one(SourceRow, self.source).removed_at is not None:
            raise LeaseLostError(f"source {self.source} was removed")


def take_hold(database: Database, clock: Clock, source: str) -> Hold | None:
    """Begin to follow a source, or return None where another does.

    A follower that died on this machine is succeeded at once, any other when
    its lease has run out.
    """
    now = datetime.now(UTC)
    with database.transaction() as session:
        row = _locked(session, source)
        if row.holder is not None and row.held_until is not None:
            held = row.held_until > now and not _is_gone(row.holder)
            if held:
                return None
        row.token += 1
        row.holder, row.held_until = _own_name(), now + LEASE
        return Hold(database, clock, source, row.token)


def _own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident():x}"


def _is_gone(holder: str) -> bool:
    """Say whether a holder is a process of this machine that no longer runs."""
    host, pid, _ = holder.rsplit(":", 2)
    return host == socket.gethostname() and not Path(f"/proc/{pid}").exists()


def _locked(session: Session, source: str) -> SourceProgressRow:
    return session.scalars(
        select(SourceProgressRow).where(SourceProgressRow.source == source).with_for_update()
    ).one()


def _sum(before: Mapping[str, int], more: Mapping[RoadOutcome, int]) -> dict[str, int]:
    return {
        outcome.value: before.get(outcome.value, 0) + more.get(outcome, 0)
        for outcome in RoadOutcome
        if before.get(outcome.value, 0) + more.get(outcome, 0)
    }
