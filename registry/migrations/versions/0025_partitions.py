"""On PostgreSQL the widest tables that grow by scan are kept in parts, by ranges of scans.

How wide the ranges are, and why: docs/decisions/0026.
"""

from __future__ import annotations

from itertools import pairwise

from alembic import op
from sqlalchemy import Connection, text

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

#: Each with what is unique in it, beside its id.
TABLES = {"embeddings": "scan, version", "results": "scan, version, task"}
_INDEXED = ("batch", "scan", "version")
_REFERENCES = {"scan": "scans", "version": "versions"}
#: Where a part begins, in millions of scans. Two parts for each doubling: whatever an
#: installation's size, its newest part holds a quarter to a third of its scans.
STARTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_MILLION = 1_000_000


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table in TABLES:
            _make_anew(connection, table, in_parts=True)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table in TABLES:
            _make_anew(connection, table, in_parts=False)


def _make_anew(connection: Connection, table: str, *, in_parts: bool) -> None:
    """Make a table again with its rows, its sequence and who may use it."""
    run = connection.exec_driver_sql
    before = f"{table}_before"
    run(f"ALTER TABLE {table} RENAME TO {before}")
    run(
        f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS)"
        + (" PARTITION BY RANGE (scan)" if in_parts else "")
    )
    if in_parts:
        for name, span in _parts(table):
            run(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {span}")
    run(f"INSERT INTO {table} SELECT * FROM {before}")  # noqa: S608 - names of ours
    run(f"ALTER SEQUENCE {table}_id_seq OWNED BY {table}.id")
    for grant in _grants(connection, before, table):
        run(grant)
    run(f"DROP TABLE {before}")
    # The key of the parts must be in every unique constraint; ids come from one sequence anyhow.
    primary = "id, scan" if in_parts else "id"
    run(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({primary})")
    unique = TABLES[table]
    name = f"uq_{table}_{unique.replace(', ', '_')}"
    run(f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE ({unique})")
    for column in _INDEXED:
        run(f"CREATE INDEX ix_{table}_{column} ON {table} ({column})")
    for column, referred in _REFERENCES.items():
        run(
            f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_{column}_{referred} "
            f"FOREIGN KEY ({column}) REFERENCES {referred} (id)"
        )
    run(f"ANALYZE {table}")


def _parts(table: str) -> list[tuple[str, str]]:
    """Return each part's name, which says where it begins, and its range."""
    limits = ["MINVALUE", *(str(start * _MILLION) for start in STARTS[1:]), "MAXVALUE"]
    return [
        (f"{table}_from_{start}m", f"FROM ({low}) TO ({high})")
        for start, (low, high) in zip(STARTS, pairwise(limits), strict=True)
    ]


def _grants(connection: Connection, before: str, table: str) -> list[str]:
    """Return what gives others the rights on a table that they had on the one before."""
    rows = connection.execute(
        text(
            "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee))"
            " END, privilege_type, is_grantable "
            "FROM pg_class, aclexplode(relacl) "
            "WHERE pg_class.oid = CAST(:table AS regclass) AND grantee <> relowner"
        ),
        {"table": before},
    )
    return [
        f"GRANT {right} ON {table} TO {role}{' WITH GRANT OPTION' if passed_on else ''}"
        for role, right, passed_on in rows
    ]
