"""What tests of the registry share: an MLflow store, whose tables take seconds to make."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_bundles import finding, tiny_bundle

from registry.bundles.bundle import Bundle
from registry.bundles.card import Tier
from registry.tracking import Tracking


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables and nothing of ours in them."""
    folder = tmp_path_factory.mktemp("mlflow")
    Tracking(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts").ping()
    return folder / "mlflow.db"


@pytest.fixture
def tracking(mlflow_tables: Path, tmp_path: Path) -> Tracking:
    shutil.copyfile(mlflow_tables, tmp_path / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


@pytest.fixture(scope="session")
def general_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A general encoder without heads; shared, so nobody may change its files."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "general")


@pytest.fixture(scope="session")
def task_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An encoder with one head; shared, so nobody may change its files."""
    folder = tmp_path_factory.mktemp("bundles")
    return tiny_bundle(folder / "task", tier=Tier.TASK, tasks=(finding(),), seed=1)
