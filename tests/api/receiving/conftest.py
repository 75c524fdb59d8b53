from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running_receiver import new_home


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as `init` makes it, made once."""
    return new_home(tmp_path_factory.mktemp("home") / "home")


@pytest.fixture
def home(empty_home: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_home, tmp_path / "home")
    return tmp_path / "home"
