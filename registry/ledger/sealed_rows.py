"""Sealed rows: compares tables with what the ledger says of their rows.

What entries seal is put aside in a temporary SQLite database, which keeps some
megabytes in memory and the rest in a file without a name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.canonical import merkle_root
from registry.database import Base
from registry.errors import DriftwardError
from registry.ledger.fault import LedgerFault
from registry.ledger.record import BatchSealed, Form, Sealed, sealed_columns, values_digest

_CHUNK = 2_000
_CACHE_KIBIBYTES = 64 * 1024


class PutAside:
    """The newest seal of every row and batch, in the order of no entry."""

    def __init__(self) -> None:
        # An empty name makes a database of this connection alone.
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}",
            "CREATE TABLE seals (tab TEXT, key TEXT, sequence INTEGER, form TEXT, digest TEXT,"
            " PRIMARY KEY (tab, key)) WITHOUT ROWID",
            "CREATE TABLE batches (tab TEXT, number INTEGER, sequence INTEGER, form TEXT,"
            " rows INTEGER, root TEXT, PRIMARY KEY (tab, number)) WITHOUT ROWID",
            "CREATE TABLE present (key TEXT PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)
        self._waiting: list[tuple[str, str, int, str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def put(
        self,
        sequence: int,
        form: Form,
        seals: Mapping[str, str],
        batches: Sequence[Mapping[str, Any]],
    ) -> None:
        """Put aside what one entry seals; a later entry's seal replaces it."""
        for name, digest in seals.items():
            table, _, key = name.partition("/")
            self._waiting.append((table, key, sequence, form.value, digest))
        if len(self._waiting) >= _CHUNK:
            self._flush()
        self._database.executemany(
            "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    *(batch["table"], batch["batch"]),
                    *(sequence, form.value, batch["rows"], batch["root"]),
                )
                for batch in batches
            ],
        )

    def seals(self, table: str, keys: Sequence[str]) -> dict[str, tuple[int, Form, str]]:
        """Return sequence, form and digest for those of a table's keys that were sealed."""
        self._flush()
        marks = ",".join("?" * len(keys))
        rows = self._database.execute(
            "SELECT key, sequence, form, digest FROM seals"  # noqa: S608 - marks alone
            f" WHERE tab = ? AND key IN ({marks})",
            (table, *keys),
        )
        return {key: (sequence, Form(form), digest) for key, sequence, form, digest in rows}

    def count(self, table: str) -> int:
        """Return how many rows of a table were sealed."""
        self._flush()
        [[number]] = self._database.execute(
            "SELECT count(*) FROM seals WHERE tab = ?", (table,)
        )
        return int(number)

    def first_absent(
        self, table: str, present: Iterator[Sequence[str]]
    ) -> tuple[int, str] | None:
        """Return sequence and key of the first sealed row that is not among those present."""
        self._database.execute("DELETE FROM present")
        for keys in present:
            self._database.executemany(
                "INSERT OR IGNORE INTO present VALUES (?)", [(key,) for key in keys]
            )
        found = self._database.execute(
            "SELECT sequence, key FROM seals WHERE tab = ? AND key NOT IN present"
            " ORDER BY sequence, key LIMIT 1",
            (table,),
        ).fetchone()
        return None if found is None else (found[0], found[1])

    def batches(self, table: str) -> Iterator[tuple[int, int, Form, int, str]]:
        """Yield number, sequence, form, rows and root of a table's batches, by number."""
        for number, sequence, form, rows, root in self._database.execute(
            "SELECT number, sequence, form, rows, root FROM batches WHERE tab = ?"
            " ORDER BY number",
            (table,),
        ):
            yield number, sequence, Form(form), rows, root

    def _flush(self) -> None:
        if self._waiting:
            self._database.executemany(
                "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?, ?)", self._waiting
            )
            self._waiting.clear()


def faults(
    session: Session, table: type[Base], aside: PutAside, *, entries: int
) -> Iterator[LedgerFault]:
    """Yield every row, or batch, of a table that is not as the ledger sealed it.

    Parameters
    ----------
    entries : of the ledger; what no entry seals is named behind them
    """
    if issubclass(table, BatchSealed):
        yield from _batch_faults(session, table, aside, entries)
    elif issubclass(table, Sealed):
        yield from _seal_faults(session, table, aside, entries)
    else:
        raise DriftwardError(f"table {table.__tablename__} is not sealed")


def _seal_faults(
    session: Session, table: type[Base], aside: PutAside, entries: int
) -> Iterator[LedgerFault]:
    name, columns, matched = table.__tablename__, sealed_columns(table), 0
    for keys, rows in _chunks(session, table, columns):
        sealed = aside.seals(name, keys)
        matched += len(sealed)
        for key, values in zip(keys, rows, strict=True):
            seal = sealed.get(key)
            if seal is None:
                yield LedgerFault(
                    sequence=entries + 1, problem=f"row {name}/{key} was never recorded"
                )
                continue
            sequence, form, digest = seal
            if values_digest(table, columns, values, form) != digest:
                yield LedgerFault(sequence=sequence, problem=f"row {name}/{key} was changed")
    if matched != aside.count(name):
        present = (keys for keys, _ in _chunks(session, table, []))
        absent = aside.first_absent(name, present)
        if absent is not None:
            yield LedgerFault(sequence=absent[0], problem=f"row {name}/{absent[1]} was deleted")


def _chunks(
    session: Session, table: type[Base], columns: Sequence[str]
) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
    """Yield keys, as seals name them, and the values of some columns, a bounded number at once."""
    mapper = table.__mapper__
    primary = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    chosen = [getattr(table, key) for key in (*primary, *columns)]
    result = session.execute(select(*chosen).execution_options(yield_per=_CHUNK))
    for partition in result.partitions():
        rows = [tuple(row) for row in partition]
        keys = ["/".join(str(part) for part in row[: len(primary)]) for row in rows]
        yield keys, [row[len(primary) :] for row in rows]


def _batch_faults(
    session: Session, table: type[Any], aside: PutAside, entries: int
) -> Iterator[LedgerFault]:
    name = table.__tablename__
    stored = _batches(session, table)
    current = next(stored, None)
    for number, sequence, form, count, root in aside.batches(name):
        while current is not None and current[0] < number:
            yield _unrecorded(name, current[0], entries)
            current = next(stored, None)
        leaves: list[str] = []
        if current is not None and current[0] == number:
            leaves = [
                values_digest(table, columns, values, form) for columns, values in current[1]
            ]
            current = next(stored, None)
        if not leaves and count:
            yield LedgerFault(
                sequence=sequence, problem=f"batch {number} of {name} was deleted"
            )
        elif len(leaves) != count:
            yield LedgerFault(
                sequence=sequence,
                problem=(
                    f"batch {number} of {name} was changed: it has {len(leaves)} rows, "
                    f"and was sealed with {count}"
                ),
            )
        elif merkle_root(leaves) != root:
            yield LedgerFault(
                sequence=sequence, problem=f"batch {number} of {name} was changed"
            )
    while current is not None:
        yield _unrecorded(name, current[0], entries)
        current = next(stored, None)


def _unrecorded(name: str, number: int, entries: int) -> LedgerFault:
    return LedgerFault(
        sequence=entries + 1, problem=f"batch {number} of {name} was never recorded"
    )


def _batches(
    session: Session, table: type[Any]
) -> Iterator[tuple[int, list[tuple[list[str], tuple[Any, ...]]]]]:
    """Yield each batch's number with its rows by primary key, one batch in memory at once."""
    columns = sealed_columns(table)
    query = (
        select(table.batch, *(getattr(table, key) for key in columns))
        .order_by(table.batch, *table.__mapper__.primary_key)
        .execution_options(yield_per=_CHUNK)
    )
    rows = (tuple(row) for row in session.execute(query))
    for number, group in groupby(rows, key=itemgetter(0)):
        yield number, [(columns, row[1:]) for row in group]
