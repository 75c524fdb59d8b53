"""The part of the ledger that an export holds, and how its entries are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.errors import BadInputError, NotFoundError
from registry.ledger.checkpoints import ledger_origin
from registry.ledger.record import GENESIS, Entry, LedgerEntry
from registry.ledger.verification import stored_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Entries that follow each other, `first` to `last`."""

    origin: str
    first: int
    last: int
    #: digest of the entry before the first
    previous: str
    #: digest of the last
    head: str

    @property
    def entries(self) -> int:
        return self.last - self.first + 1


def part_of(session: Session, *, since: datetime | None, until: datetime | None) -> Part:
    """Return the entries from the first at or after `since` to the last before `until`.

    Where times do not rise with the entries, what lies between is there, too.

    Raises
    ------
    BadInputError
        If the span is empty.
    NotFoundError
        If the ledger has no entry in it.
    """
    if since is not None and until is not None and since >= until:
        raise BadInputError(
            f"no time lies between {since} and {until}: give --since before --until"
        )
    query = select(func.min(LedgerEntry.sequence), func.max(LedgerEntry.sequence))
    if since is not None:
        query = query.where(LedgerEntry.recorded_at >= since)
    if until is not None:
        query = query.where(LedgerEntry.recorded_at < until)
    bounds = session.execute(query).one()
    first: int | None = bounds[0]
    last: int | None = bounds[1]
    origin = ledger_origin(session)
    if first is None or last is None or origin is None:
        raise NotFoundError("the ledger has no entry in that span: there is nothing to export")
    return Part(
        origin=origin,
        first=first,
        last=last,
        previous=GENESIS if first == 1 else _digest(session, first - 1),
        head=_digest(session, last),
    )


def _digest(session: Session, sequence: int) -> str:
    found = session.scalar(select(LedgerEntry.digest).where(LedgerEntry.sequence == sequence))
    if found is None:
        raise NotFoundError(f"entry {sequence} is missing: run `driftward audit verify`")
    return found


def entries_of(session: Session, part: Part) -> Iterator[Entry]:
    """Read the entries of a part, a bounded number at once."""
    for sequence, at, actor, kind, subject, canonical, digest in stored_entries(
        session, first=part.first, last=part.last
    ):
        yield Entry(
            sequence=sequence,
            recorded_at=datetime.fromisoformat(at),
            actor=actor,
            kind=kind,
            subject=subject,
            facts=json.loads(canonical)["facts"],
            digest=digest,
        )
