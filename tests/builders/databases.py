"""The databases on which a test runs."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from running_postgresql import RunningPostgresql

from api.settings import Settings
from registry.database import Database

SQLITE, POSTGRESQL = "sqlite", "postgresql"

#: Runs a test once on each database that Driftward supports: `pytestmark = on_each_database`,
#: or as a decorator. Without it, all that stands on the fixture `databases` is SQLite, or what
#: the environment's DRIFTWARD_TEST_DATABASE says.
on_each_database = pytest.mark.parametrize(
    "databases", [SQLITE, POSTGRESQL], indirect=True, scope="session"
)
#: Runs it on PostgreSQL alone.
on_postgresql = pytest.mark.parametrize(
    "databases", [POSTGRESQL], indirect=True, scope="session"
)
#: Leaves it to SQLite: its subject is the file, or what is the same whatever is stored to. No
#: parameter, since homes that are made once would be made again for each.
on_sqlite = pytest.mark.on_sqlite


def name_home(home: Settings, environment: pytest.MonkeyPatch) -> None:
    """Have the environment name a home, for commands and for `Settings()`."""
    environment.setenv("DRIFTWARD_HOME", str(home.home))
    if home.database_url is not None:
        environment.setenv("DRIFTWARD_DATABASE_URL", home.database_url)


class Databases(ABC):
    """Makes databases and homes on one kind, for tests to fill, to copy and to throw away."""

    kind: str

    @abstractmethod
    def migrated(self) -> Database:
        """Make an empty one with every table."""

    @abstractmethod
    def copied(self, original: Database) -> Database:
        """Copy one that nobody uses meanwhile."""

    @abstractmethod
    def throw_away(self, database: Database) -> None:
        """Close it and delete it, whoever is connected."""

    @abstractmethod
    def home_at(self, folder: Path) -> Settings:
        """Return where a home can be made, with an empty database of its own."""

    @abstractmethod
    def copied_home(self, home: Settings, folder: Path) -> Settings:
        """Copy a home, with its database, that nobody uses meanwhile."""

    @abstractmethod
    def throw_away_database(self, home: Settings) -> None:
        """Delete what a home has outside its folder, whoever is connected."""


class SqliteFiles(Databases):
    """Databases in files of one folder."""

    kind = SQLITE

    def __init__(self, folder: Path, *, migrated: Path) -> None:
        self._folder, self._migrated, self._numbers = folder, migrated, count(1)

    def migrated(self) -> Database:
        return self._copy(self._migrated)

    def copied(self, original: Database) -> Database:
        _write_back(original)
        original.dispose()
        return self._copy(Path(original.url.removeprefix("sqlite:///")))

    def _copy(self, original: Path) -> Database:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        path = folder / "driftward.db"
        shutil.copyfile(original, path)
        return Database(f"sqlite:///{path}")

    def throw_away(self, database: Database) -> None:
        database.dispose()
        with suppress(FileNotFoundError):
            shutil.rmtree(Path(database.url.removeprefix("sqlite:///")).parent)

    def home_at(self, folder: Path) -> Settings:
        return Settings(home=folder)

    def copied_home(self, home: Settings, folder: Path) -> Settings:
        database = Database(f"sqlite:///{home.home / 'driftward.db'}")
        _write_back(database)
        database.dispose()
        return home.model_copy(update={"home": Path(shutil.copytree(home.home, folder))})

    def throw_away_database(self, home: Settings) -> None:
        pass


def _write_back(database: Database) -> None:
    """Leave nothing in the log beside a SQLite file."""
    connection = database.engine.raw_connection()
    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


class PostgresqlDatabases(Databases):
    """Databases on one server."""

    kind = POSTGRESQL

    def __init__(self, server: RunningPostgresql) -> None:
        self._server = server

    def migrated(self) -> Database:
        return Database(self._server.migrated())

    def copied(self, original: Database) -> Database:
        original.dispose()  # nobody may be connected to what is copied
        return Database(self._server.copied(original.url))

    def throw_away(self, database: Database) -> None:
        database.dispose()
        self._server.drop(database.url)

    def home_at(self, folder: Path) -> Settings:
        return Settings(home=folder, database_url=self._server.empty())

    def copied_home(self, home: Settings, folder: Path) -> Settings:
        assert home.database_url is not None
        shutil.copytree(home.home, folder)
        url = self._server.copied(home.database_url)
        return home.model_copy(update={"home": folder, "database_url": url})

    def throw_away_database(self, home: Settings) -> None:
        assert home.database_url is not None
        self._server.drop(home.database_url)
