"""Schedulers and workers at once, in processes of their own, on one database."""

from __future__ import annotations

from pathlib import Path

import pytest
from breaches import home_with_breaches, take_up


@pytest.mark.slow
def test_each_breach_has_one_run_under_a_plan_however_many_take_it_up(tmp_path: Path) -> None:
    driftward = home_with_breaches(tmp_path, 40)
    taken = take_up(driftward, schedulers=3, workers=3, within_seconds=400)
    assert taken.sound, taken
    assert taken.queued == 10
    assert taken.earlier_runs > 0
    # A worker that starts late on a busy machine may find nothing left.
    assert taken.ticks > 0
    assert taken.workers > 1
