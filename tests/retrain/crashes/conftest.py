from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from crashed_training import Ended, ended_as, home_with_a_queued_run, work


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """A home in which a first version waits to be trained."""
    root = tmp_path_factory.mktemp("template")
    return home_with_a_queued_run(root, empty_mlflow=empty_mlflow)


@pytest.fixture(scope="module")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """How the run ends where nobody kills anything."""
    home = Path(shutil.copytree(template, tmp_path_factory.mktemp("undisturbed") / "home"))
    assert work(home) == 0
    return ended_as(home)
