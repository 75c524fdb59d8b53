from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitored_history import ANCHOR, HALF_WEEK
from plan_texts import with_values
from retraining_rows import AT_LEAST, MODEL, PLAN, SUBGROUP, Retraining, ledger_is_valid
from sqlalchemy import select

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.labels import Provenance
from registry import serving
from registry.jobs import Job
from registry.serving import Withholding
from retrain import decisions, runs
from retrain.decisions import Action
from retrain.states import RunState
from retrain.tables import RunRow


def run_of(retraining: Retraining, episode: int) -> RunRow | None:
    with retraining.database.reading() as session:
        return session.scalars(select(RunRow).where(RunRow.episode == episode)).first()


def state_of(retraining: Retraining, episode: int) -> str | None:
    run = run_of(retraining, episode)
    return run.state if run else None


def restricted(retraining: Retraining) -> list[str | None]:
    with retraining.database.reading() as session:
        return [row.subgroup for row in serving.restrictions(session, MODEL)]


def training_jobs(retraining: Retraining) -> int:
    with retraining.database.reading() as session:
        return len(session.scalars(select(Job).where(Job.kind == "train")).all())


@pytest.mark.parametrize("impact", [Impact.NONE_SHOWN, Impact.SUSPECTED])
def test_drift_alone_never_queues_a_run_however_many_labels_there_are(
    retraining: Retraining, impact: Impact
) -> None:
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=impact)
    for _ in range(3):
        retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.AWAITING_LABELS
    assert training_jobs(retraining) == 0


def test_a_suspected_impact_restricts_the_subgroup_and_asks_for_labels(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode()
    retraining.decide(episode)
    retraining.decide(episode)
    assert restricted(retraining) == [SUBGROUP]
    with retraining.database.reading() as session:
        made = decisions.of_episode(session, episode)
    assert [row.action for row in made] == [Action.RESTRICT, Action.LABEL_REQUEST]
    assert ledger_is_valid(retraining.database)


def test_a_measured_impact_queues_one_run_however_often_it_is_decided(
    retraining: Retraining,
) -> None:
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=AT_LEAST)
    for _ in range(4):
        retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.QUEUED
    assert training_jobs(retraining) == 1
    with retraining.database.reading() as session:
        assert len(runs.all_runs(session, MODEL)) == 2  # the first version's, and this one
    assert ledger_is_valid(retraining.database)


def test_labels_that_are_too_few_make_the_run_wait_until_they_are_enough(
    retraining: Retraining,
) -> None:
    retraining.shifted(AT_LEAST - 1, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=AT_LEAST - 1)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.AWAITING_LABELS
    retraining.shifted(AT_LEAST, provenance=Provenance.DATASET)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.QUEUED


def test_labels_that_an_ai_influenced_never_count(retraining: Retraining) -> None:
    scans = retraining.shifted(3 * AT_LEAST, read=True)
    after_the_result = ANCHOR + 2 * HALF_WEEK
    retraining.label(scans, signed_at=after_the_result)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=len(scans))
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.AWAITING_LABELS
    assert training_jobs(retraining) == 0


def test_labels_of_a_provenance_that_the_plan_does_not_name_never_count(
    retraining: Retraining,
) -> None:
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.REPORT)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=3 * AT_LEAST)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.AWAITING_LABELS


def test_labels_that_show_no_impact_end_the_run_and_lift_its_restriction(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode()
    retraining.decide(episode)
    assert restricted(retraining) == [SUBGROUP]
    retraining.judge(episode, Impact.NONE_SHOWN, scans=AT_LEAST - 1)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.AWAITING_LABELS, "too few to say so"
    assert restricted(retraining) == [SUBGROUP]
    retraining.judge(episode, Impact.NONE_SHOWN)
    retraining.decide(episode)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.SUPERSEDED
    assert restricted(retraining) == []
    assert ledger_is_valid(retraining.database)


def test_what_a_person_suspended_stays_so_when_labels_show_no_impact(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode(subgroup=None)
    retraining.decide(episode)
    with retraining.database.transaction() as session:
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.SUSPEND,
            subgroup=None,
            reason="a person said so",
            actor="test",
            at=retraining.now,
        )
    retraining.judge(episode, Impact.NONE_SHOWN)
    retraining.decide(episode)
    assert state_of(retraining, episode) == RunState.SUPERSEDED
    assert restricted(retraining) == [None]


@pytest.mark.parametrize("autonomy", ["observe", "propose"])
def test_without_the_autonomy_to_act_steps_are_proposed_and_nothing_is_done(
    retraining: Retraining, autonomy: str
) -> None:
    retraining.apply_plan(PLAN.replace("autonomy: act", f"autonomy: {autonomy}"))
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=3 * AT_LEAST)
    retraining.decide(episode)
    with retraining.database.reading() as session:
        made = decisions.of_episode(session, episode)
    assert [(row.action, row.carried_out) for row in made] == [
        (Action.RESTRICT, False),
        (Action.RUN, False),
    ]
    assert (run_of(retraining, episode), restricted(retraining)) == (None, [])


def test_a_model_without_authority_only_gets_a_ticket(retraining: Retraining) -> None:
    retraining.apply_plan(PLAN.replace("authority: research", "authority: none"))
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=3 * AT_LEAST)
    retraining.decide(episode)
    with retraining.database.reading() as session:
        made = decisions.of_episode(session, episode)
    assert [row.action for row in made] == [Action.RESTRICT, Action.TICKET]
    assert run_of(retraining, episode) is None


def test_another_plan_is_decided_under_anew(retraining: Retraining) -> None:
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=3 * AT_LEAST)
    retraining.decide(episode)
    second = retraining.apply_plan(f"{PLAN}\n# reviewed\n")
    retraining.decide(episode)
    retraining.decide(episode)
    with retraining.database.reading() as session:
        run = runs.of_episode(session, episode, second.id)
        made = decisions.of_episode(session, episode)
    assert run is not None
    assert run.state == RunState.QUEUED
    assert [row.action for row in made if row.plan == second.id] == [
        Action.RESTRICT,
        Action.RUN,
    ]
    assert restricted(retraining) == [SUBGROUP]


def test_an_episode_that_has_ended_is_left_alone(retraining: Retraining) -> None:
    episode = retraining.open_episode()
    with retraining.database.transaction() as session:
        episodes.end(
            session,
            episodes.require_episode(session, episode),
            EpisodeState.CLOSED,
            reason="test",
            actor="test",
            at=retraining.now,
        )
    retraining.decide(episode)
    with retraining.database.reading() as session:
        assert decisions.of_episode(session, episode) == []


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cause=st.sampled_from(Cause), impact=st.sampled_from(Impact), times=st.integers(1, 3))
def test_whatever_the_cause_a_run_is_queued_only_by_a_measured_impact_that_the_plan_permits(
    retraining: Retraining, cause: Cause, impact: Impact, times: int
) -> None:
    retraining.shifted(2 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(cause=cause, impact=impact, judged_scans=AT_LEAST)
    for _ in range(times):
        retraining.decide(episode)
    permitted = cause in {Cause.ACQUISITION, Cause.TECHNICAL}
    queued = state_of(retraining, episode) == RunState.QUEUED
    assert queued == (permitted and impact is Impact.MEASURED)
    with retraining.database.transaction() as session:
        row = episodes.require_episode(session, episode)
        episodes.end(
            session, row, EpisodeState.CLOSED, reason="next", actor="test", at=retraining.now
        )


@pytest.mark.parametrize("runs_per_quarter", ["100", "0"])
def test_a_shift_that_is_gone_ends_the_wait_for_labels_and_asks_a_person_to_lift(
    retraining: Retraining, runs_per_quarter: str
) -> None:
    # With no run allowed, a ticket stands there already.
    retraining.apply_plan(with_values(PLAN, runs_per_quarter=runs_per_quarter))
    episode = retraining.open_episode()
    retraining.decide(episode)
    waits = runs_per_quarter != "0"
    assert state_of(retraining, episode) == (RunState.AWAITING_LABELS if waits else None)
    with retraining.database.transaction() as session:
        episodes.end(
            session,
            episodes.require_episode(session, episode),
            EpisodeState.CLOSED,
            reason="recovered",
            actor="test",
            at=ANCHOR + 4 * HALF_WEEK,
        )
    for _ in range(2):
        retraining.decide(episode)
    assert state_of(retraining, episode) == (RunState.SUPERSEDED if waits else None)
    # What took the model out of use is lifted by a person.
    assert restricted(retraining) == [SUBGROUP]
    with retraining.database.reading() as session:
        last = decisions.of_episode(session, episode)[-1]
        asked = [
            row for row in decisions.of_episode(session, episode) if row.action == Action.LIFT
        ]
    assert f"driftward lift {MODEL} --subgroup '{SUBGROUP}'" in last.reason
    assert [row.carried_out for row in asked] == [False]
    assert ledger_is_valid(retraining.database)
