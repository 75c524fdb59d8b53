from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases, name_home

from api.initialising import initialise
from api.settings import Settings


@pytest.fixture(scope="session")
def empty_home(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home as `init` makes it, made once."""
    home = databases.home_at(tmp_path_factory.mktemp("home") / "home")
    initialise(home, name="tester")
    return home


@pytest.fixture
def home(
    databases: Databases,
    empty_home: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A home that the environment names, wherever its database is."""
    copied = databases.copied_home(empty_home, tmp_path / "home")
    name_home(copied, monkeypatch)
    yield copied.home
    databases.throw_away_database(copied)
