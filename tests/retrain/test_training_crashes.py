"""`kill -9` at every crash point of training and validation: resumed, and nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from crashed_training import (
    TRAINING_POINTS,
    Ended,
    crashed_and_resumed,
    ended_as,
    home_with_a_queued_run,
    work,
)

from registry.crash_points import POINTS

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    root = tmp_path_factory.mktemp("template")
    return home_with_a_queued_run(root, empty_mlflow=empty_mlflow)


@pytest.fixture(scope="module")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    home = Path(shutil.copytree(template, tmp_path_factory.mktemp("undisturbed") / "home"))
    assert work(home) == 0
    return ended_as(home)


def test_every_point_of_training_and_validation_is_crashed_at() -> None:
    assert [one for one in POINTS if one.startswith(("train:", "validate:"))] == [
        *TRAINING_POINTS
    ]


def test_an_undisturbed_run_ends_once_everywhere(undisturbed: Ended) -> None:
    assert undisturbed.versions == 1
    assert undisturbed.tracked == {"FINISHED": 1}
    assert undisturbed.ledger_is_valid
    assert undisturbed.gates


@pytest.mark.parametrize("time", ["once", "twice"])
@pytest.mark.parametrize("point", TRAINING_POINTS)
def test_a_run_whose_worker_was_killed_ends_as_if_undisturbed(
    template: Path, undisturbed: Ended, tmp_path: Path, point: str, time: str
) -> None:
    assert crashed_and_resumed(template, tmp_path, point=point) == undisturbed
