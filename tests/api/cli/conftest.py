"""A home that `init` made, copied for each test, and the command line run on it in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from databases import Databases, name_home
from tiny_bundles import tiny_bundle

from api.assembly import Driftward
from api.cli import main
from api.initialising import initialise
from api.settings import Settings
from registry.bundles.bundle import Bundle
from registry.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document that stdout is."""
        return json.loads(self.stdout)


#: Runs `driftward` with these words.
Run: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def driftward(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["driftward", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        captured = capsys.readouterr()
        return Outcome(code=code, stdout=captured.out, stderr=captured.err)

    return run


@pytest.fixture(scope="session")
def founded_home(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home as `init` makes it, with MLflow's tables, which take seconds to make."""
    home = databases.home_at(tmp_path_factory.mktemp("founded") / "home")
    initialise(home)
    installation = Driftward.open(home)
    installation.tracking.ping()
    installation.database.dispose()
    return home


@pytest.fixture
def home(
    databases: Databases,
    founded_home: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A home that the environment names, wherever its database is."""
    copied = databases.copied_home(founded_home, tmp_path / "home")
    name_home(copied, monkeypatch)
    yield copied.home
    databases.throw_away_database(copied)


@pytest.fixture
def home_database(home: Path) -> Iterator[Database]:
    """The home's database, as somebody sees it who has a right to it."""
    opened = Driftward(Settings(home=home)).database
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def general_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A general encoder; shared, so nobody may change its files."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "general")
