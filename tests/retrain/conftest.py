from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from monitored_history import History, found
from retraining_rows import Retraining

from monitor.references import ProfileStore
from registry.database import Database
from registry.tracking import Tracking


@pytest.fixture
def retraining(database: Database, tmp_path: Path) -> Retraining:
    """A monitored model whose champion a first run made, and its plan."""
    found(database)
    made = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    made.apply_plan()
    return made


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: making one takes seconds, copying it nothing."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}", path.parent / "artifacts").ping()
    return path


@pytest.fixture
def mlflow_home(empty_mlflow: Path, tmp_path: Path) -> Path:
    """A folder that an installation can take for its own MLflow."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    return folder
