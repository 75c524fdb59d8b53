"""`kill -9` at every crash point of shadow, approval, promotion, stages, renewal and rollback."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashed_promotion import STEPS, Crashed, Life, crash, life_of_a_champion

from registry.crash_points import POINTS

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]
#: What is said to one who gives the command again, since it was taken already.
SAID_AGAIN = {
    "approve: committed": "has signed run",
    "promote: committed": "@2, not pneumonia-cxr@1 as expected",
    "roll back: committed": "--from pneumonia-cxr@1",
    "undo rollback: committed": "did not come by a rollback",
}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Life:
    return life_of_a_champion(tmp_path_factory.mktemp("life"), empty_mlflow=empty_mlflow)


def test_every_point_of_a_champions_life_is_crashed_at() -> None:
    kinds = (
        *("shadow:", "approve:", "promote:", "enter stage:", "outbox:", "reference:"),
        *("roll back:", "undo rollback:"),
    )
    there = {point for point in POINTS if point.startswith(kinds)}
    assert there == {point for points in STEPS.values() for point in points}


@pytest.mark.parametrize(
    ("step", "point", "time"),
    [
        (step, point, time)
        for step, points in STEPS.items()
        for point in points
        # A reference is built by a command, and renewed by a worker: at its points once each.
        for time in (["once"] if point.startswith("reference:") else ["once", "twice"])
    ],
)
def test_what_was_killed_is_whole_and_goes_on(
    life: Life, tmp_path: Path, step: str, point: str, time: str
) -> None:
    found: Crashed = crash(life, step, point, tmp_path)
    assert found.left.sound, found.left
    assert found.ended == life.after[step]
    if point in SAID_AGAIN:
        # It was done: who asks again is told so, and nothing is done twice.
        assert (found.code, SAID_AGAIN[point] in found.said) == (1, True), found.said
    else:
        assert found.code == 0, found.said
