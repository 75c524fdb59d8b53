"""The ledger: an append-only, hash-chained record, written in the transaction of the change.

Each entry's digest covers the digest before it and the canonical bytes of the
entry, which are stored as they were hashed. Beside the fact itself an entry
carries *seals*: digests of the rows that the change left behind. So an edit of
a sealed row in its own table is found as surely as an edit of the ledger.
Many rows of one kind (scans, embeddings) are sealed together by a Merkle root.
Whether it all still stands is what `registry.ledger.verification` finds out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry.canonical import (
    Json,
    canonical_bytes,
    jcs_bytes,
    merkle_root,
    sha256,
    to_json,
)
from registry.database import Base

GENESIS = "0" * 64


class Form(StrEnum):
    """How the bytes of an entry, and of the rows that it seals, were made canonical.

    An entry names its form under the key `form`; the first ones, in `FIRST`, name none.
    """

    FIRST = "first"
    JCS = "rfc8785"


_BYTES_OF = {Form.FIRST: canonical_bytes, Form.JCS: jcs_bytes}


class AppendOnly:
    """Mixed into a table whose rows are never changed nor deleted: triggers refuse it.

    A migration makes the triggers (`registry.ledger.append_only`).
    """


class Kept:
    """Mixed into a table whose rows may change and are never deleted: triggers refuse that.

    A migration makes the triggers (`registry.ledger.append_only`).
    """


class LedgerEntry(AppendOnly, Base):
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

    Raises
    ------
    ValueError
        For facts that RFC 8785 cannot write: an infinite float, an integer beyond 2^53 - 1.

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
        "form": Form.JCS.value,
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
    canonical = jcs_bytes(body)
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
    """Return the digest of every sealed column of a row, by RFC 8785."""
    table = type(row)
    keys = sealed_columns(table)
    return values_digest(table, keys, [getattr(row, key) for key in keys], Form.JCS)


def sealed_columns(table: type[Base]) -> list[str]:
    """Return the attributes of a table that its rows' digests cover."""
    unsealed: frozenset[str] = getattr(table, "__unsealed__", frozenset())
    return [
        column.key for column in table.__mapper__.column_attrs if column.key not in unsealed
    ]


def values_digest(
    table: type[Base], keys: Sequence[str], values: Sequence[object], form: Form
) -> str:
    """Return the digest of a row whose sealed columns, `keys`, hold `values`."""
    added: Mapping[str, object] = getattr(table, "__added__", {})
    return sha256(
        _BYTES_OF[form](
            {
                key: to_json(value)
                for key, value in zip(keys, values, strict=True)
                if key not in added or value != added[key]
            }
        )
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
