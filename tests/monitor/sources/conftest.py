from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases
from sources_home import SourcesHome

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings


@pytest.fixture(scope="session")
def empty_home(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = databases.home_at(tmp_path_factory.mktemp("sources") / "home")
    initialise(home)
    return home


@pytest.fixture
def home(databases: Databases, empty_home: Settings, tmp_path: Path) -> Iterator[SourcesHome]:
    copied = databases.copied_home(empty_home, tmp_path / "home")
    driftward = Driftward.open(copied)
    yield SourcesHome(driftward)
    driftward.database.dispose()
    databases.throw_away_database(copied)
