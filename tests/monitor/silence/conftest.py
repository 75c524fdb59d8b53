from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from scanner_history import ScannerHistory

from registry.database import Database


@pytest.fixture(scope="session")
def three_weeks(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database into which three scanners sent for three ordinary weeks: made once."""
    path = tmp_path_factory.mktemp("lived") / "driftward.db"
    shutil.copyfile(migrated_database, path)
    database = Database(f"sqlite:///{path}")
    ScannerHistory(database).live(3 * 168)
    connection = database.engine.raw_connection()
    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    database.dispose()
    return path


@pytest.fixture
def lived(three_weeks: Path, tmp_path: Path) -> Iterator[ScannerHistory]:
    """Three ordinary weeks; it is a Monday, at midnight."""
    path = tmp_path / "driftward.db"
    shutil.copyfile(three_weeks, path)
    database = Database(f"sqlite:///{path}")
    yield ScannerHistory(database, seed=7)
    database.dispose()
