from __future__ import annotations

import pytest
from retraining_rows import MODEL, Retraining, advance, ledger_is_valid

from registry import ledger
from registry.errors import NotFoundError, TransitionError
from registry.versions import VersionRow
from retrain import plans, runs
from retrain.plans import Strategy
from retrain.states import TRANSITIONS, RunState
from retrain.tables import RunRow


def plan_run(retraining: Retraining, episode: int | None) -> int:
    with retraining.database.transaction() as session:
        plan = plans.require_plan(session, MODEL)
        champion = session.get_one(VersionRow, retraining.history.champion.id)
        return runs.create(
            session,
            model=MODEL,
            episode=episode,
            plan=plan,
            strategy=Strategy.FULL,
            base=champion,
            champion=champion,
            settings={"task": "pneumonia"},
            seed=0,
            note="test",
            actor="test",
            at=retraining.now,
        ).id


def test_an_episode_has_one_run_under_one_plan(retraining: Retraining) -> None:
    episode = retraining.open_episode()
    first = plan_run(retraining, episode)
    assert plan_run(retraining, episode) == first
    retraining.apply_plan(retraining.apply_plan().plan and _another())
    assert plan_run(retraining, episode) != first
    assert ledger_is_valid(retraining.database)


def _another() -> str:
    from retraining_rows import PLAN

    return f"{PLAN}\n# another\n"


@pytest.mark.parametrize("before", RunState)
@pytest.mark.parametrize("after", RunState)
def test_a_run_moves_by_the_table_and_no_other_way(
    retraining: Retraining, before: RunState, after: RunState
) -> None:
    run = plan_run(retraining, None)
    with retraining.database.transaction() as session:
        row = session.get_one(RunRow, run)
        row.state = before.value
        entries = ledger.verify(session, tables=[]).entries
        if after in TRANSITIONS[before]:
            advance(session, row, after, retraining.now)
            assert row.state == after
            assert ledger.verify(session, tables=[]).entries == entries + 1
        else:
            with pytest.raises(TransitionError, match="cannot become"):
                advance(session, row, after, retraining.now)
            assert row.state == before
            assert ledger.verify(session, tables=[]).entries == entries


def test_a_run_that_does_not_exist_is_named(retraining: Retraining) -> None:
    with (
        retraining.database.reading() as session,
        pytest.raises(NotFoundError, match="there is no run 999"),
    ):
        runs.require_run(session, 999)


def test_runs_under_way_are_those_that_have_not_ended(retraining: Retraining) -> None:
    waiting, ended = plan_run(retraining, None), plan_run(retraining, None)
    with retraining.database.transaction() as session:
        advance(
            session, runs.require_run(session, ended), RunState.SUPERSEDED, retraining.now
        )
    with retraining.database.reading() as session:
        assert [row.id for row in runs.under_way(session)] == [waiting]
        assert [row.id for row in runs.all_runs(session, MODEL)][:2] == [ended, waiting]
        assert runs.all_runs(session, "another") == []
