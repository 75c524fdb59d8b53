from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases
from monitored_history import History, found

from monitor.references import ProfileStore
from registry.database import Database


@pytest.fixture(scope="session")
def founded_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the profiles of `founded`."""
    return tmp_path_factory.mktemp("monitored") / "profiles"


@pytest.fixture(scope="session")
def founded(databases: Databases, founded_profiles: Path) -> Iterator[Database]:
    """A monitored model with its accepted references: fitted once, copied often."""
    made = databases.migrated()
    found(made)
    History(made, ProfileStore(founded_profiles)).accept_reference()
    yield made
    databases.throw_away(made)


@pytest.fixture
def history(
    databases: Databases, founded: Database, founded_profiles: Path
) -> Iterator[History]:
    """A monitored model with accepted references and no window yet."""
    made = databases.copied(founded)
    yield History(made, ProfileStore(founded_profiles))
    databases.throw_away(made)


@pytest.fixture
def bare_history(database: Database, tmp_path: Path) -> History:
    """A monitored model without a reference."""
    found(database)
    return History(database, ProfileStore(tmp_path / "profiles"))
