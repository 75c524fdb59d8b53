"""People of a replay act at once, and never beyond the plan."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from monitored_history import History, found
from plan_texts import with_values
from retraining_rows import MODEL, PLAN, Retraining

from monitor.references import ProfileStore
from registry import serving
from registry.database import Database
from retrain import runs
from retrain.backtesting.people import let_people_act
from retrain.states import RunState


@pytest.fixture
def retraining(database: Database, tmp_path: Path) -> Retraining:
    found(database)
    return Retraining(History(database, ProfileStore(tmp_path / "profiles")))


def acted(retraining: Retraining, run: int) -> tuple[str | None, str]:
    """Let people act on a run; returns what held them back, and its state."""
    with retraining.database.transaction() as session:
        row = runs.require_run(session, run)
        why = let_people_act(session, row, at=retraining.now)
        return why, row.state


def test_a_candidate_that_passed_is_signed_and_promoted_at_once(retraining: Retraining) -> None:
    retraining.apply_plan(PLAN.replace("people: 1", "people: 2"))
    run = retraining.run_awaiting_approval()
    assert acted(retraining, run) == (None, RunState.PROMOTED)
    with retraining.database.reading() as session:
        champion = serving.require_champion(session, MODEL)
        assert champion.id == runs.require_run(session, run).candidate


def test_a_candidate_whose_champion_was_replaced_is_superseded(retraining: Retraining) -> None:
    retraining.apply_plan()
    first, second = (retraining.run_awaiting_approval() for _ in range(2))
    assert acted(retraining, first) == (None, RunState.PROMOTED)
    why, state = acted(retraining, second)
    assert state == RunState.SUPERSEDED
    assert why is not None
    assert "not pneumonia@1 as expected" in why


def test_a_candidate_waits_for_the_days_between_promotions(retraining: Retraining) -> None:
    retraining.apply_plan(with_values(PLAN, days_between_promotions="30"))
    first = retraining.run_awaiting_approval()
    assert acted(retraining, first) == (None, RunState.PROMOTED)
    second = retraining.run_awaiting_approval()
    why, state = acted(retraining, second)
    assert state == RunState.AWAITING_APPROVAL
    assert why is not None
    assert "wants 30 days between promotions" in why
    retraining.clock.at += timedelta(days=31)
    assert acted(retraining, second) == (None, RunState.PROMOTED)
