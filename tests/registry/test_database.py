from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from databases import on_each_database, on_sqlite
from sqlalchemy import inspect, text

import api.assembly  # noqa: F401 - the metadata must know every table
from registry.database import OLDEST_SAFE_SQLITE, Base, Database, safe_sqlite
from registry.errors import NewerSchemaError
from registry.parts import without_parts


@on_each_database
def test_migrations_make_the_schema_that_the_tables_declare(database: Database) -> None:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "include_name": without_parts(connection)}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_migrations_go_down_to_nothing_and_up_again(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    from alembic import command

    from registry.database import _alembic_config

    url = f"sqlite:///{tmp_path / 'database.db'}"
    if backend == "postgresql":
        url = request.getfixturevalue("postgresql").empty()
    database = Database(url)
    database.migrate()
    config = _alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert database.revision() is None
    with database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
    database.migrate()
    assert database.revision() is not None
    database.dispose()


@on_each_database
def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerSchemaError, match=r"9999 is newer .* upgrade driftward"):
        database.migrate()
    assert database.revision() == "9999"


@on_sqlite
def test_sqlite_is_new_enough_and_survives_power_loss(database: Database) -> None:
    assert safe_sqlite().sqlite_version_info >= OLDEST_SAFE_SQLITE
    with database.engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
