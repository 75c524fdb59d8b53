from __future__ import annotations

import time

import pytest
from monitored_history import ANCHOR, HALF_WEEK, found
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.monitors import Monitor, apply_monitor, require_monitor
from registry.clock import ReplayClock
from registry.database import Database
from registry.jobs import Job
from retrain import scheduling
from retrain.scheduling import Schedule, tick


class Cursed:
    """Fails for one monitor, after it has written something for it."""

    def __init__(self, name: str) -> None:
        self.name: str | None = name

    def count_pending(self, session: Session, monitor: Monitor) -> int:
        if monitor.name == self.name:
            raise OverflowError("date value out of range")
        return 1


@pytest.fixture
def cursed(database: Database, monkeypatch: pytest.MonkeyPatch) -> Cursed:
    """Two monitors, the first of which cannot be looked at."""
    found(database)
    with database.transaction() as session:
        spec = require_monitor(session, "chest").specification
        apply_monitor(
            session, spec.model_copy(update={"name": "abdomen"}), actor="test", at=ANCHOR
        )
    made = Cursed("abdomen")
    monkeypatch.setattr(scheduling, "count_pending", made.count_pending)
    return made


def keys(database: Database) -> set[str]:
    with database.reading() as session:
        return {key for key in session.scalars(select(Job.key)) if "purge" not in key}


def test_a_monitor_that_cannot_be_looked_at_silences_no_other(
    database: Database, cursed: Cursed
) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        tick(database, ReplayClock(ANCHOR + HALF_WEEK))
    [why] = raised.value.exceptions
    assert why.__notes__ == ["while looking what is due for monitor abdomen"]
    assert "embed/chest" in keys(database)
    assert not any("abdomen" in key for key in keys(database))


def test_a_schedule_knows_for_how_long_it_fails(
    database: Database, cursed: Cursed, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule(database, ReplayClock(ANCHOR))
    assert schedule.failing_seconds == 0
    moment = time.monotonic()
    for later in (0, 30, 60):
        monkeypatch.setattr(time, "monotonic", lambda later=later: moment + later)
        with pytest.raises(ExceptionGroup):
            schedule.tick()
    assert schedule.failing_seconds == 60
    cursed.name = None
    schedule.tick()
    assert schedule.failing_seconds == 0
