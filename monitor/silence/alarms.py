"""Silence alarms: a source of scans that sends too little, or too much, from opening to closing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.silence.arrivals import Key
from monitor.tables import ArrivalLookRow, SilenceAlarmRow
from registry import ledger
from registry.canonical import Json
from registry.errors import ConflictError, NotFoundError

QUARTER = timedelta(weeks=13)


class SilenceKind(StrEnum):
    """What is the matter with a source."""

    MISSING = "missing"
    SURPLUS = "surplus"
    #: its scans come, but no longer state the attribute that told it apart
    UNSTATED = "unstated"


class SilenceState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An alarm that is to be opened."""

    subgroup: str
    kind: SilenceKind
    #: the leaves that it covers
    leaves: tuple[Key, ...]
    #: what was asked: "silent", "few", "surge" or "many"
    question: str
    since: datetime
    expected: float
    received: int
    p_value: float
    alpha: float
    #: what a person reads, and what to check first
    evidence: dict[str, Json]
    #: alarms that it takes in, by id
    absorbs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """An alarm that is to be closed."""

    alarm: int
    reason: str


def open_alarms(session: Session, monitor: str | None = None) -> list[SilenceAlarmRow]:
    """Return open alarms, oldest first."""
    query = select(SilenceAlarmRow).where(SilenceAlarmRow.state == SilenceState.OPEN)
    if monitor is not None:
        query = query.where(SilenceAlarmRow.monitor == monitor)
    return list(session.scalars(query.order_by(SilenceAlarmRow.id)))


def all_alarms(session: Session, monitor: str) -> list[SilenceAlarmRow]:
    """Return a monitor's alarms, newest first."""
    return list(
        session.scalars(
            select(SilenceAlarmRow)
            .where(SilenceAlarmRow.monitor == monitor)
            .order_by(SilenceAlarmRow.id.desc())
        )
    )


def require_alarm(session: Session, monitor: str, alarm: int) -> SilenceAlarmRow:
    """Return an alarm of a monitor.

    Raises
    ------
    NotFoundError
    """
    row = session.get(SilenceAlarmRow, alarm)
    if row is None or row.monitor != monitor:
        raise NotFoundError(
            f"monitor {monitor} has no silence alarm {alarm}: see "
            f"`driftward monitor silence {monitor}`"
        )
    return row


def newest_look(session: Session, monitor: str) -> ArrivalLookRow | None:
    """Return the newest look at a monitor's arrivals, or None before the first."""
    return session.get(ArrivalLookRow, monitor)


def opened_lately(session: Session, monitor: str, *, now: datetime) -> int:
    """Count the alarms of the last quarter; those that took others in go on and count once."""
    rows = session.scalars(
        select(SilenceAlarmRow).where(
            SilenceAlarmRow.monitor == monitor,
            SilenceAlarmRow.opened_at > now - QUARTER,
            SilenceAlarmRow.opened_at <= now,
        )
    )
    return sum(not row.evidence["absorbs"] for row in rows)


def open_alarm(
    session: Session, monitor: str, opening: Opening, *, actor: str, at: datetime
) -> SilenceAlarmRow:
    """Open an alarm, and close those that it takes in."""
    row = SilenceAlarmRow(
        monitor=monitor,
        subgroup=opening.subgroup,
        kind=opening.kind.value,
        state=SilenceState.OPEN.value,
        since=opening.since,
        opened_at=at,
        expected=round(opening.expected, 2),
        received=opening.received,
        p_value=opening.p_value,
        alpha=opening.alpha,
        evidence={
            **opening.evidence,
            "question": opening.question,
            "absorbs": list(opening.absorbs),
            "leaves": [list(leaf) for leaf in opening.leaves],
        },
        accepted=False,
    )
    session.add(row)
    session.flush()
    _record(
        session,
        row,
        "silence.opened",
        {
            "subgroup": row.subgroup,
            "kind": row.kind,
            "since": row.since.isoformat(),
            "expected": row.expected,
            "received": row.received,
            "p_value": row.p_value,
            "alpha": row.alpha,
        },
        actor,
        at,
    )
    for number in opening.absorbs:
        part = session.get_one(SilenceAlarmRow, number)
        if part.state == SilenceState.OPEN:
            close_alarm(session, part, reason=f"part of alarm {row.id}", actor=actor, at=at)
    return row


def close_alarm(
    session: Session, row: SilenceAlarmRow, *, reason: str, actor: str, at: datetime
) -> None:
    """Close an open alarm.

    Raises
    ------
    ConflictError
        If it is closed already.
    """
    if row.state != SilenceState.OPEN:
        raise ConflictError(f"silence alarm {row.id} is closed already: {row.closed_reason}")
    row.state, row.closed_at, row.closed_reason = SilenceState.CLOSED.value, at, reason
    _record(
        session,
        row,
        "silence.closed",
        {"subgroup": row.subgroup, "kind": row.kind, "reason": reason},
        actor,
        at,
    )


def accept_alarm(
    session: Session, row: SilenceAlarmRow, *, reason: str, actor: str, at: datetime
) -> None:
    """Close an alarm as a person does: what it found is ordinary from its beginning on.

    The sources that it covers are learnt anew from then.

    Raises
    ------
    ConflictError
        If it is closed already.
    """
    row.accepted = True
    close_alarm(session, row, reason=reason, actor=actor, at=at)


def leaves_of(row: SilenceAlarmRow) -> tuple[Key, ...]:
    """Return the leaves that an alarm covers."""
    return tuple(tuple(values) for values in row.evidence["leaves"])


def covers(row: SilenceAlarmRow, leaves: Sequence[Key]) -> bool:
    """Return whether an alarm covers any of these leaves."""
    return not set(leaves).isdisjoint(leaves_of(row))


def _record(
    session: Session,
    row: SilenceAlarmRow,
    kind: str,
    facts: dict[str, Json],
    actor: str,
    at: datetime,
) -> None:
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=row.monitor,
        facts={"alarm": row.id, **facts},
        seals=[row],
    )
