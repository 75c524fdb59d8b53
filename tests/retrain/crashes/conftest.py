from __future__ import annotations

from pathlib import Path

import pytest
from crashed_training import Ended, Homes, homes_of_a_run
from crashed_training import undisturbed as end_of_an_undisturbed_run


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Homes:
    """Homes of a first version's run, from which crashes begin."""
    return homes_of_a_run(tmp_path_factory.mktemp("homes"), empty_mlflow=empty_mlflow)


@pytest.fixture(scope="session")
def undisturbed(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """How the run ends where nobody kills anything."""
    return end_of_an_undisturbed_run(homes, tmp_path_factory.mktemp("undisturbed"))
