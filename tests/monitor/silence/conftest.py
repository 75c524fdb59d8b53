from __future__ import annotations

from collections.abc import Iterator

import pytest
from databases import Databases
from scanner_history import ScannerHistory

from registry.database import Database


@pytest.fixture(scope="session")
def three_weeks(databases: Databases) -> Iterator[Database]:
    """A database into which three scanners sent for three ordinary weeks: made once."""
    made = databases.migrated()
    ScannerHistory(made).live(3 * 168)
    yield made
    databases.throw_away(made)


@pytest.fixture
def lived(databases: Databases, three_weeks: Database) -> Iterator[ScannerHistory]:
    """Three ordinary weeks; it is a Monday, at midnight."""
    made = databases.copied(three_weeks)
    yield ScannerHistory(made, seed=7)
    databases.throw_away(made)
