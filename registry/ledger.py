"""The ledger: an append-only, hash-chained record, written in the transaction of the change.

Each entry's digest covers the digest before it and the canonical bytes of the
entry, which are stored as they were hashed. Beside the fact itself an entry
carries *seals*: digests of the rows that the change left behind. So an edit of
a sealed row in its own table is found as surely as an edit of the ledger.
Many rows of one kind (scans, embeddings) are sealed together by a Merkle root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry.canonical import Json, canonical_bytes, digest_of, merkle_root, to_json
from registry.database import Base
from registry.errors import DriftwardError

GENESIS = "0" * 64
VERIFY_CHUNK = 10_000


class LedgerEntry(Base):
    __tablename__ = "ledger"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    recorded_at: Mapped[datetime]
    actor: Mapped[str]
    kind: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    canonical: Mapped[bytes]
    digest: Mapped[str]


class LedgerHead(Base):
    """The newest entry, in one row that every writer locks: it orders them."""

    __tablename__ = "ledger_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    digest: Mapped[str]


class Sealed:
    """Mixed into a table whose rows are sealed one by one.

    `unsealed` names columns that may change without an entry. `added` names
    columns that the table has not always had, with what the rows from before
    have in them: while a row has just that, its digest is what it was.
    """

    __unsealed__: frozenset[str] = frozenset()
    __added__: Mapping[str, object] = MappingProxyType({})


class BatchSealed:
    """Mixed into a table whose rows are sealed together, by their `batch` column."""

    batch: Mapped[int] = mapped_column(index=True)
    __unsealed__: frozenset[str] = frozenset()
    __added__: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFault:
    """The first place where ledger or tables disagree."""

    #: entry that the fault concerns
    sequence: int
    #: what is wrong, in a sentence
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `verify` found."""

    entries: int
    #: digest of the newest entry
    head: str
    fault: LedgerFault | None

    @property
    def valid(self) -> bool:
        return self.fault is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, read back."""

    sequence: int
    recorded_at: datetime
    actor: str
    kind: str
    subject: str
    facts: dict[str, Any]
    digest: str


def sealed_tables() -> list[type[Base]]:
    """Return every table that was declared so far and whose rows are sealed."""
    tables: list[type[Base]] = [mapper.class_ for mapper in Base.registry.mappers]
    return [table for table in tables if issubclass(table, Sealed | BatchSealed)]


def append(
    session: Session,
    *,
    at: datetime,
    actor: str,
    kind: str,
    subject: str,
    facts: dict[str, Json],
    seals: Sequence[Base] = (),
    batches: Sequence[tuple[type[BatchSealed], int]] = (),
) -> LedgerEntry:
    """Append one entry in the caller's transaction.

    Parameters
    ----------
    kind : what happened, as `noun.verb` ("version.registered")
    subject : what it happened to ("pneumonia@2"); never a patient's identifier
    facts : what must be provable later
    seals : rows that this change wrote; each is sealed as it stands now
    batches : (table, batch number) of rows sealed together
    """
    session.flush()
    head = session.execute(
        select(LedgerHead).where(LedgerHead.id == 1).with_for_update()
    ).scalar_one_or_none()
    if head is None:
        head = LedgerHead(id=1, sequence=0, digest=GENESIS)
        session.add(head)
    sequence = head.sequence + 1
    body: dict[str, Json] = {
        "sequence": sequence,
        "at": to_json(at),
        "actor": actor,
        "kind": kind,
        "subject": subject,
        "facts": facts,
    }
    if seals:
        body["seals"] = {row_name(row): row_digest(row) for row in seals}
    if batches:
        body["batches"] = [_batch_seal(session, table, number) for table, number in batches]
    canonical = canonical_bytes(body)
    digest = chain(head.digest, canonical)
    entry = LedgerEntry(
        sequence=sequence,
        recorded_at=at,
        actor=actor,
        kind=kind,
        subject=subject,
        canonical=canonical,
        digest=digest,
    )
    session.add(entry)
    head.sequence, head.digest = sequence, digest
    session.flush()
    return entry


def wait_turn(session: Session) -> None:
    """Order the caller's transaction behind whoever appends now, before it reads what they write.

    On SQLite a transaction that writes is ordered by its beginning.
    """
    session.execute(
        select(LedgerHead.sequence).where(LedgerHead.id == 1).with_for_update()
    ).all()


def next_batch(session: Session, table: type[BatchSealed]) -> int:
    """Return the number of a table's next batch; the transaction must exclude other writers."""
    return (session.scalar(select(func.max(table.batch))) or 0) + 1


def chain(previous: str, canonical: bytes) -> str:
    """Return the digest of an entry that follows the digest `previous`."""
    return hashlib.sha256(bytes.fromhex(previous) + canonical).hexdigest()


def row_name(row: Base) -> str:
    """Return `table/key` of a row."""
    mapper = type(row).__mapper__
    key = "/".join(str(part) for part in mapper.primary_key_from_instance(row))
    return f"{row.__tablename__}/{key}"


def row_digest(row: Base) -> str:
    """Return the digest of every sealed column of a row."""
    unsealed: frozenset[str] = getattr(row, "__unsealed__", frozenset())
    added: Mapping[str, object] = getattr(row, "__added__", {})
    values = {
        column.key: getattr(row, column.key)
        for column in type(row).__mapper__.column_attrs
        if column.key not in unsealed
    }
    return digest_of(
        {
            key: to_json(value)
            for key, value in values.items()
            if key not in added or value != added[key]
        }
    )


def entries(
    session: Session,
    *,
    kind: str | None = None,
    subject: str | None = None,
    after: int = 0,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[Entry]:
    """Return entries in their order, filtered by kind and subject."""
    order = LedgerEntry.sequence.desc() if newest_first else LedgerEntry.sequence
    query = select(LedgerEntry).where(LedgerEntry.sequence > after).order_by(order)
    if kind is not None:
        query = query.where(LedgerEntry.kind == kind)
    if subject is not None:
        query = query.where(LedgerEntry.subject == subject)
    if limit is not None:
        query = query.limit(limit)
    return [_read(row) for row in session.scalars(query)]


def verify(session: Session, tables: Iterable[type[Base]] | None = None) -> Verification:
    """Verify the chain, and the rows of `tables` (by default every sealed one) against their seals.

    Returns the first fault in the order of the ledger. A row is compared with
    its newest seal, so the sequence named is the entry that last vouched for it.
    """
    previous, count = GENESIS, 0
    seals: dict[str, tuple[int, str]] = {}
    batches: dict[tuple[str, int], tuple[int, dict[str, Any]]] = {}
    for row in session.scalars(
        select(LedgerEntry)
        .order_by(LedgerEntry.sequence)
        .execution_options(yield_per=VERIFY_CHUNK)
    ):
        count += 1
        problem = _entry_problem(row, count, previous)
        if problem is not None:
            return _faulty(count - 1, previous, min(row.sequence, count), problem)
        previous = row.digest
        body = json.loads(row.canonical)
        for name, digest in body.get("seals", {}).items():
            seals[name] = (count, digest)
        for batch in body.get("batches", []):
            batches[batch["table"], batch["batch"]] = (count, batch)
    head = session.get(LedgerHead, 1)
    if (head.sequence if head else 0) != count or (
        head.digest if head else GENESIS
    ) != previous:
        return _faulty(count, previous, count + 1, "the newest entries are missing")
    checked = sealed_tables() if tables is None else tables
    faults = list(_row_faults(session, checked, seals, batches))
    fault = min(faults, key=lambda found: found.sequence, default=None)
    return Verification(entries=count, head=previous, fault=fault)


def _entry_problem(row: LedgerEntry, expected: int, previous: str) -> str | None:
    if row.sequence != expected:
        return f"entry {expected} is missing"
    if chain(previous, row.canonical) != row.digest:
        return "the entry was changed: its digest does not follow from the one before"
    body = json.loads(row.canonical)
    stored = {
        "sequence": row.sequence,
        "at": to_json(row.recorded_at),
        "actor": row.actor,
        "kind": row.kind,
        "subject": row.subject,
    }
    wrong = [name for name, value in stored.items() if body[name] != value]
    return f"the entry's {wrong[0]} was changed beside its record" if wrong else None


def _faulty(entries: int, head: str, sequence: int, problem: str) -> Verification:
    fault = LedgerFault(sequence=sequence, problem=problem)
    return Verification(entries=entries, head=head, fault=fault)


def _row_faults(
    session: Session,
    tables: Iterable[type[Base]],
    seals: dict[str, tuple[int, str]],
    batches: dict[tuple[str, int], tuple[int, dict[str, Any]]],
) -> Iterator[LedgerFault]:
    for table in tables:
        if issubclass(table, BatchSealed):
            yield from _batch_faults(session, table, batches)
        elif issubclass(table, Sealed):
            yield from _seal_faults(session, table, seals)
        else:
            raise DriftwardError(f"table {table.__tablename__} is not sealed")


def _seal_faults(
    session: Session, table: type[Base], seals: dict[str, tuple[int, str]]
) -> Iterator[LedgerFault]:
    prefix = f"{table.__tablename__}/"
    expected = {name: seal for name, seal in seals.items() if name.startswith(prefix)}
    newest = max((sequence for sequence, _ in seals.values()), default=0)
    for row in session.scalars(select(table).execution_options(yield_per=VERIFY_CHUNK)):
        name = row_name(row)
        sequence, digest = expected.pop(name, (newest + 1, ""))
        if not digest:
            yield LedgerFault(sequence=sequence, problem=f"row {name} was never recorded")
        elif row_digest(row) != digest:
            yield LedgerFault(sequence=sequence, problem=f"row {name} was changed")
    for name, (sequence, _) in expected.items():
        yield LedgerFault(sequence=sequence, problem=f"row {name} was deleted")


def _batch_faults(
    session: Session,
    table: type[Any],
    batches: dict[tuple[str, int], tuple[int, dict[str, Any]]],
) -> Iterator[LedgerFault]:
    name = table.__tablename__
    found = set(session.scalars(select(table.batch).distinct()))
    known = {number: seal for (of, number), seal in batches.items() if of == name}
    newest = max((sequence for sequence, _ in known.values()), default=0)
    for number in found - known.keys():
        yield LedgerFault(
            sequence=newest + 1, problem=f"batch {number} of {name} was never recorded"
        )
    for number, (sequence, seal) in known.items():
        if _batch_seal(session, table, number) != seal:
            yield LedgerFault(
                sequence=sequence, problem=f"batch {number} of {name} was changed"
            )


def _batch_seal(session: Session, table: type[Any], number: int) -> dict[str, Json]:
    key = table.__mapper__.primary_key
    rows = session.scalars(select(table).where(table.batch == number).order_by(*key))
    leaves = [row_digest(row) for row in rows]
    return {
        "table": table.__tablename__,
        "batch": number,
        "rows": len(leaves),
        "root": merkle_root(leaves),
    }


def _read(row: LedgerEntry) -> Entry:
    return Entry(
        sequence=row.sequence,
        recorded_at=row.recorded_at,
        actor=row.actor,
        kind=row.kind,
        subject=row.subject,
        facts=json.loads(row.canonical)["facts"],
        digest=row.digest,
    )
