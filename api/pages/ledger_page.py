"""The ledger's page: entries, newest first, and whether the record still stands."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import wording
from registry import ledger
from registry.clock import Clock
from registry.database import Database
from registry.ledger import Entry, LedgerEntry, LedgerHead, Verification

PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification found, and when."""

    found: Verification
    at: datetime


class VerificationDesk:
    """Verifies the ledger when asked, one at a time, and remembers the newest finding."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._verifying = threading.Lock()
        self.newest: Verified | None = None

    def verify(self) -> Verified:
        """Verify the chain, and every sealed row against it."""
        with self._verifying, self._database.reading() as session:
            found = ledger.verify(session)
            verified = Verified(found=found, at=self._clock.now())
            self.newest = verified
            return verified


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLine:
    """One entry in the list."""

    sequence: int
    at: str
    actor: str
    kind: str
    subject: str
    #: page of the subject, if there is one
    link: str | None
    facts: tuple[tuple[str, str], ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Everything on the ledger's page."""

    entries: tuple[EntryLine, ...]
    total: int
    kinds: tuple[str, ...]
    kind: str | None
    subject: str | None
    #: sequence before which the next page starts, if there is one
    older: int | None


def entry_count(session: Session) -> int:
    """Return how many entries the ledger has."""
    head = session.get(LedgerHead, 1)
    return head.sequence if head else 0


def ledger_page(
    session: Session, *, kind: str | None, subject: str | None, before: int | None
) -> LedgerPage:
    """Return one page of entries, newest first."""
    found = entries_before(session, kind=kind, subject=subject, before=before, limit=PAGE + 1)
    more, found = len(found) > PAGE, found[:PAGE]
    kinds = session.scalars(
        select(LedgerEntry.kind).distinct().order_by(LedgerEntry.kind)
    ).all()
    return LedgerPage(
        entries=tuple(_line(entry) for entry in found),
        total=entry_count(session),
        kinds=tuple(kinds),
        kind=kind,
        subject=subject,
        older=found[-1].sequence if more else None,
    )


def entries_before(
    session: Session, *, kind: str | None, subject: str | None, before: int | None, limit: int
) -> list[Entry]:
    """Return the newest entries before a sequence number, newest first."""
    query = select(LedgerEntry).order_by(LedgerEntry.sequence.desc()).limit(limit)
    if kind is not None:
        query = query.where(LedgerEntry.kind == kind)
    if subject is not None:
        query = query.where(LedgerEntry.subject == subject)
    if before is not None:
        query = query.where(LedgerEntry.sequence < before)
    return [entry_of(row) for row in session.scalars(query)]


def entry_of(row: LedgerEntry) -> Entry:
    """Return an entry as it is read back."""
    return Entry(
        sequence=row.sequence,
        recorded_at=row.recorded_at,
        actor=row.actor,
        kind=row.kind,
        subject=row.subject,
        facts=json.loads(row.canonical)["facts"],
        digest=row.digest,
    )


def _line(entry: Entry) -> EntryLine:
    return EntryLine(
        sequence=entry.sequence,
        at=wording.moment(entry.recorded_at),
        actor=entry.actor,
        kind=entry.kind,
        subject=entry.subject,
        link=link_of(entry.kind, entry.subject),
        facts=tuple((name, _fact(value)) for name, value in entry.facts.items()),
        digest=entry.digest,
    )


def link_of(kind: str, subject: str) -> str | None:
    """Return the page of what an entry is about, if there is one."""
    thing, _, number = subject.partition(" ")
    if thing in {"run", "episode"} and number.isdecimal():
        return f"/{thing}s/{number}"
    match kind.partition(".")[0]:
        case "version" | "champion" if "@" in subject:
            return f"/models/{subject.rpartition('@')[0]}"
        case "model" | "plan":
            return f"/models/{subject}"
        case "monitor" | "window" | "reference" | "performance" | "silence":
            return f"/monitors/{subject}"
    return None


def _fact(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
