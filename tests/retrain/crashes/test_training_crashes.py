"""`kill -9` at every crash point of training: resumed, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashed_training import TRAINING_POINTS, Ended, Homes, crashed_and_resumed

from registry.crash_points import POINTS

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]
OF_TRAINING = [point for point in TRAINING_POINTS if point.startswith("train:")]


def test_every_point_of_training_and_validation_is_crashed_at() -> None:
    there = [one for one in POINTS if one.startswith(("train:", "validate:"))]
    assert there == [*TRAINING_POINTS]


def test_an_undisturbed_run_ends_once_everywhere(undisturbed: Ended) -> None:
    assert undisturbed.versions == 1
    assert undisturbed.tracked == {"FINISHED": 1}
    assert undisturbed.ledger_is_valid
    assert undisturbed.gates


@pytest.mark.parametrize("time", ["once", "twice"])
@pytest.mark.parametrize("point", OF_TRAINING)
def test_a_run_whose_worker_was_killed_ends_as_if_undisturbed(
    homes: Homes, undisturbed: Ended, tmp_path: Path, point: str, time: str
) -> None:
    assert crashed_and_resumed(homes, tmp_path, point=point) == undisturbed
