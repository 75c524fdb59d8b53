from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources_home import SourcesHome

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sources") / "home"
    initialise(Settings(home=home))
    driftward = Driftward.open(Settings(home=home))
    connection = driftward.database.engine.raw_connection()
    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    driftward.database.dispose()
    return home


@pytest.fixture
def home(empty_home: Path, tmp_path: Path) -> Iterator[SourcesHome]:
    copied = Path(shutil.copytree(empty_home, tmp_path / "home"))
    driftward = Driftward.open(Settings(home=copied))
    yield SourcesHome(driftward)
    driftward.database.dispose()
