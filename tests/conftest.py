"""What tests of several packages share: real databases, made once and copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from databases import POSTGRESQL, SQLITE, Databases, PostgresqlDatabases, SqliteFiles
from running_postgresql import RunningPostgresql
from sent_statements import StatementNotes, fewest_that_send_all

from registry.database import Database

#: On which database all that has not named its own runs.
_KIND = os.environ.get("DRIFTWARD_TEST_DATABASE", SQLITE)
#: The folder in which it is noted what tests send to SQLite, for the choice of those that run
#: again on another database.
_STATEMENTS = os.environ.get("DRIFTWARD_TEST_STATEMENTS")
_NOTES = pytest.StashKey[StatementNotes]()
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def pytest_configure(config: pytest.Config) -> None:
    if _KIND == SQLITE and _STATEMENTS:
        config.stash[_NOTES] = StatementNotes(Path(_STATEMENTS))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _NOTES in config.stash:
        config.stash[_NOTES].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    if _NOTES in item.config.stash:
        item.config.stash[_NOTES].begin(item.nodeid)


@pytest.hookimpl(trylast=True)  # what -m or -k leaves out sends nothing
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with files that take long, so that none is left to one process in the end.

    On another database, run only what stands on one and has not named its own; and of that,
    where it was noted what is sent to SQLite, only as much as sends all of it.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if _KIND == SQLITE:
        return
    concerned = [item for item in items if _stands_on_a_database(item)]
    if _STATEMENTS:
        fewest = fewest_that_send_all([item.nodeid for item in concerned], Path(_STATEMENTS))
        concerned = [item for item in concerned if item.nodeid in fewest]
    kept = {*concerned}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = concerned


def _stands_on_a_database(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or "databases" not in item.fixturenames:
        return False
    named = getattr(getattr(item, "callspec", None), "params", {})
    return "databases" not in named and item.get_closest_marker("on_sqlite") is None


@pytest.fixture
def now() -> datetime:
    return NOON


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated SQLite file."""
    path = tmp_path_factory.mktemp("migrated") / "driftward.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[RunningPostgresql]:
    """A PostgreSQL server, started for the first test that needs one."""
    server = RunningPostgresql()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest,
    migrated_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Databases:
    """Where tests' databases are made: in SQLite files, or on a PostgreSQL server.

    The marks of `databases` say which; without one, DRIFTWARD_TEST_DATABASE does.
    """
    kind = getattr(request, "param", _KIND)
    if kind == POSTGRESQL:
        return PostgresqlDatabases(request.getfixturevalue("postgresql"))
    if kind != SQLITE:
        pytest.exit(f"DRIFTWARD_TEST_DATABASE is {kind}; it can be {SQLITE} or {POSTGRESQL}")
    return SqliteFiles(tmp_path_factory.mktemp("databases"), migrated=migrated_database)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """An empty, migrated database of a test's own."""
    made = databases.migrated()
    yield made
    databases.throw_away(made)


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep passwords by parameters that cost nothing; those in use cost a tenth of a second."""
    from argon2 import PasswordHasher

    from registry.access import passwords

    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
