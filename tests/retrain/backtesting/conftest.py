"""A small installation of half a year with three shifts, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shifted_history import ShiftedHistory

from api.assembly import Driftward


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShiftedHistory]:
    """120 scans a week."""
    made = ShiftedHistory(
        tmp_path_factory.mktemp("shifted") / "home", scans_a_week=120, dimension=16
    )
    made.make()
    yield made
    made.driftward.database.dispose()


@pytest.fixture
def driftward(history: ShiftedHistory) -> Driftward:
    return history.driftward


@pytest.fixture
def plan_file(history: ShiftedHistory, tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(history.plan_text())
    return path
