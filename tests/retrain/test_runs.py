from __future__ import annotations

import pytest
from retraining_rows import MODEL, PLAN, Retraining, advance, ledger_is_valid

from registry import ledger
from registry.errors import NotFoundError, TransitionError
from registry.versions import VersionRow
from retrain import plans, runs
from retrain.change_plan import Strategy
from retrain.states import RunState


def plan_run(retraining: Retraining, episode: int | None) -> int:
    with retraining.database.transaction() as session:
        plan = plans.require_plan(session, MODEL)
        champion = session.get_one(VersionRow, retraining.history.champion.id)
        return runs.create(
            session,
            model=MODEL,
            episode=episode,
            plan=plan,
            strategies=(Strategy.FULL,),
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
    retraining.apply_plan(f"{PLAN}\n# another\n")
    assert plan_run(retraining, episode) != first
    assert ledger_is_valid(retraining.database)


def test_each_step_of_a_run_enters_the_ledger_with_where_it_came_from(
    retraining: Retraining,
) -> None:
    run = plan_run(retraining, None)
    steps = (RunState.QUEUED, RunState.TRAINING, RunState.FAILED)
    with retraining.database.transaction() as session:
        for state in steps:
            advance(session, runs.require_run(session, run), state, retraining.now)
    with retraining.database.reading() as session:
        told = [
            (entry.kind, entry.facts["before"])
            for entry in ledger.entries(session)
            if entry.subject == f"run {run}" and entry.kind != "run.planned"
        ]
    assert told == [
        ("run.queued", "planned"),
        ("run.training", "queued"),
        ("run.failed", "training"),
    ]


def test_a_step_that_does_not_exist_changes_neither_run_nor_ledger(
    retraining: Retraining,
) -> None:
    run = plan_run(retraining, None)
    with retraining.database.transaction() as session:
        entries = ledger.verify(session, tables=[]).entries
        with pytest.raises(TransitionError, match="cannot become promoted"):
            advance(session, runs.require_run(session, run), RunState.PROMOTED, retraining.now)
        assert runs.require_run(session, run).state == RunState.PLANNED
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
        advance(session, runs.require_run(session, ended), RunState.SUPERSEDED, retraining.now)
    with retraining.database.reading() as session:
        assert [row.id for row in runs.under_way(session)] == [waiting]
        assert [row.id for row in runs.all_runs(session, MODEL)][:2] == [ended, waiting]
        assert runs.all_runs(session, "another") == []
