from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitored_history import History, found

from monitor.references import ProfileStore
from registry.database import Database


@pytest.fixture(scope="session")
def founded(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a monitored model and its accepted references: fitted once, copied often."""
    folder = tmp_path_factory.mktemp("monitored")
    shutil.copyfile(migrated_database, folder / "driftward.db")
    database = Database(f"sqlite:///{folder / 'driftward.db'}")
    found(database)
    History(database, ProfileStore(folder / "profiles")).accept_reference()
    database.engine.raw_connection().cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    return folder


@pytest.fixture
def history(founded: Path, tmp_path: Path) -> Iterator[History]:
    """A monitored model with accepted references and no window yet."""
    shutil.copyfile(founded / "driftward.db", tmp_path / "driftward.db")
    database = Database(f"sqlite:///{tmp_path / 'driftward.db'}")
    yield History(database, ProfileStore(founded / "profiles"))
    database.dispose()


@pytest.fixture
def bare_history(database: Database, tmp_path: Path) -> History:
    """A monitored model without a reference."""
    found(database)
    return History(database, ProfileStore(tmp_path / "profiles"))
