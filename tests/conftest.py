"""What tests of several packages share: real databases, made once and copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from running_postgresql import RunningPostgresql

from registry.database import Database

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


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


@pytest.fixture
def database(
    request: pytest.FixtureRequest, migrated_database: Path, tmp_path: Path
) -> Iterator[Database]:
    """An empty, migrated database of a test's own: SQLite, or what `on_each_database` says."""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: RunningPostgresql = request.getfixturevalue("postgresql")
        url = server.migrated()
        opened = Database(url)
        yield opened
        opened.dispose()
        server.drop(url)
        return
    path = tmp_path / "driftward.db"
    shutil.copyfile(migrated_database, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.dispose()


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep passwords by parameters that cost nothing; those in use cost a tenth of a second."""
    from argon2 import PasswordHasher

    from registry.access import passwords

    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
