"""Tables that grow by scan are in parts on PostgreSQL, and nobody who asks them notices."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise

import pytest
from alembic import command
from databases import POSTGRESQL, on_each_database, on_postgresql
from sealed_examples import fill, row_of
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from monitor.tables import EmbeddingRow, ResultRow, ScanRow
from registry import ledger
from registry.database import Database, _alembic_config
from registry.parts import parts

PARTED = (EmbeddingRow, ResultRow)
MILLION = 1_000_000
#: Scans at both ends of parts; the first is that of the sealed example.
NUMBERS = (1, MILLION - 1, MILLION, 7_999_999, 512 * MILLION, 2**40)
_RANGE = re.compile(r"FOR VALUES FROM \((.+)\) TO \((.+)\)")


def go(database: Database, revision: str) -> None:
    """Migrate, up or down."""
    config = _alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        if revision == "head":
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)


@pytest.fixture
def filled(database: Database, now: datetime) -> Database:
    """Rows in every table, and in the first, the last and some parts between."""
    with database.transaction() as session:
        fill(session, now)
        if database.engine.dialect.name == POSTGRESQL:
            for table in PARTED:  # whose first row has its number from nobody
                session.execute(text(f"SELECT nextval('{table.__tablename__}_id_seq')"))
        for number in NUMBERS[1:]:
            scan = {**row_of(ScanRow.__table__, now), "id": number, "instance": str(number)}
            session.execute(insert(ScanRow).values({**scan, "batch": number}))
            _seal(session, ScanRow, number, now)
            for table in PARTED:
                row = row_of(table.__table__, now) | {"scan": number, "batch": number}
                del row["id"]
                session.execute(insert(table).values(row))
                _seal(session, table, number, now)
    return database


def _seal(session: Session, table: type[ScanRow], number: int, at: datetime) -> None:
    ledger.append(
        session,
        at=at,
        actor="test",
        kind="example.made",
        subject=f"scan {number}",
        facts={},
        batches=[(table, number)],
    )


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.reading() as session:
        return {
            table.__tablename__: [
                tuple(row)
                for row in session.execute(select(table.__table__).order_by(table.id))
            ]
            for table in PARTED
        }


@on_each_database
def test_rows_go_into_parts_and_back_again_whole(filled: Database, now: datetime) -> None:
    before = rows_of(filled)
    assert [len(rows) for rows in before.values()] == [len(NUMBERS)] * 2
    for revision in ("0024", "head"):
        go(filled, revision)
        assert rows_of(filled) == before
        with filled.engine.connect() as connection:
            in_parts = filled.engine.dialect.name == POSTGRESQL and revision == "head"
            assert bool(parts(connection)) == in_parts
        with filled.reading() as session:
            # What other tables had gained since is gone, as a downgrade has it.
            assert ledger.verify(session, tables=[ScanRow, *PARTED]).valid
    highest = max(row[0] for row in before["embeddings"])  # type: ignore[type-var]
    with filled.transaction() as session:
        added = EmbeddingRow(scan=2**40, version=1, space="other", vector=b"", batch=9)
        session.add(added)
        with pytest.raises(IntegrityError):  # one scan by one version, in whatever part
            session.flush()
        session.rollback()
    with filled.transaction() as session:
        scan = row_of(ScanRow.__table__, now) | {"id": 2, "instance": "2"}
        session.execute(insert(ScanRow).values(scan))
        added = EmbeddingRow(scan=2, version=1, space="other", vector=b"", batch=9)
        session.add(added)
        session.flush()
        assert added.id > highest


@on_postgresql
def test_the_parts_hold_every_number_once(filled: Database) -> None:
    with filled.engine.connect() as connection:
        for table in PARTED:
            name = table.__tablename__
            ranges = []
            for part, span in parts(connection).items():
                if part.startswith(f"{name}_from_"):
                    found = _RANGE.fullmatch(span)
                    assert found is not None, span
                    start = int(part.removeprefix(f"{name}_from_").removesuffix("m"))
                    ranges.append((start, found[1].strip("'"), found[2].strip("'")))
            ranges.sort()
            assert (ranges[0][1], ranges[-1][2]) == ("MINVALUE", "MAXVALUE")
            assert all(before[2] == after[1] for before, after in pairwise(ranges))
            assert all(int(low) == start * MILLION for start, low, _ in ranges[1:])
            # From the second doubling on, the newest part has at most a third of all scans.
            starts = [start for start, *_ in ranges if start >= 4]
            assert all(end - start <= end / 3 for start, end in pairwise(starts))
            where = connection.execute(
                text(f"SELECT scan, tableoid::regclass::text FROM {name} ORDER BY scan")
            )
            assert [tuple(row) for row in where] == [
                (number, f"{name}_from_{start}m")
                for number, start in zip(NUMBERS, (0, 0, 1, 6, 512, 512), strict=True)
            ]


@on_postgresql
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("TRUNCATE embeddings_from_6m", "batch 7999999 of embeddings was deleted"),
        (
            "ALTER TABLE embeddings DETACH PARTITION embeddings_from_512m",
            "batch 512000000 of embeddings was deleted",
        ),
        ("DROP TABLE results_from_1m", "batch 1000000 of results was deleted"),
        ("UPDATE results_from_0m SET threshold = 0.9", "batch 1 of results was changed"),
        ("DELETE FROM embeddings WHERE scan = 1000000", "batch 1000000 of embeddings"),
    ],
)
def test_whatever_is_done_to_a_part_is_found(
    filled: Database, statement: str, problem: str
) -> None:
    with filled.transaction() as session:
        session.execute(text(statement))
    with filled.reading() as session:
        assert problem in str(ledger.verify(session).problem)


@on_postgresql
def test_who_may_use_the_table_may_still_and_not_its_parts(filled: Database) -> None:
    go(filled, "0024")
    with filled.transaction() as session:
        session.execute(text("CREATE ROLE services"))
        session.execute(text("GRANT SELECT, INSERT, UPDATE, DELETE ON embeddings TO services"))
        session.execute(text("GRANT SELECT ON results TO services WITH GRANT OPTION"))
        session.execute(text("GRANT SELECT ON results TO PUBLIC"))
    try:
        for revision in ("head", "0024", "head"):
            go(filled, revision)
        with filled.engine.connect() as connection:
            query = text("SELECT has_table_privilege('services', :table, :right)")
            assert all(
                connection.scalar(query, {"table": table, "right": right}) is held
                for table, right, held in (
                    ("embeddings", "INSERT", True),
                    ("embeddings", "TRUNCATE", False),
                    ("embeddings", "TRIGGER", False),
                    ("results", "SELECT WITH GRANT OPTION", True),
                    ("results", "INSERT", False),
                    ("embeddings_from_0m", "SELECT", False),
                )
            )
            connection.execute(text("SET ROLE services"))
            assert connection.scalar(text("SELECT count(*) FROM embeddings")) == len(NUMBERS)
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text("DELETE FROM embeddings_from_0m"))
            connection.rollback()
    finally:
        with filled.transaction() as session:
            session.execute(text("DROP OWNED BY services"))
            session.execute(text("DROP ROLE services"))
