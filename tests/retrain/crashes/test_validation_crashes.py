"""`kill -9` at every crash point of validation: resumed, and no gate judges twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashed_training import TRAINING_POINTS, Ended, Homes, crashed_and_resumed

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]
OF_VALIDATION = [point for point in TRAINING_POINTS if point.startswith("validate:")]


@pytest.mark.parametrize("time", ["once", "twice"])
@pytest.mark.parametrize("point", OF_VALIDATION)
def test_a_validation_whose_worker_was_killed_ends_as_if_undisturbed(
    homes: Homes, undisturbed: Ended, tmp_path: Path, point: str, time: str
) -> None:
    assert crashed_and_resumed(homes, tmp_path, point=point) == undisturbed
