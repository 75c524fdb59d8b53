"""Promotions that are staged by site: what serves where, what holds the next stage back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from retraining_rows import (
    MODEL,
    PLAN,
    SUBGROUP,
    Retraining,
    ledger_is_valid,
    person,
    seal,
)
from sqlalchemy import select

from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.tables import EpisodeRow
from registry import ledger, recalls, runtimes, serving
from registry.errors import ConflictError, NotFoundError, PlanRefusedError, TransitionError
from registry.identities import Identity, Role
from registry.jobs import Job, JobQueue
from registry.outbox import OutboxItem
from registry.serving import Withholding
from registry.versions import find
from retrain import allowance, plans, runs, staging
from retrain.promotion import promote
from retrain.rolling_back import roll_back
from retrain.scheduling import tick
from retrain.stage_entering import ENTER_STAGE, StageEnterer, ask_to_enter_stages
from retrain.states import RunState
from retrain.watching import beginning
from retrain.watching.states import WatchState

MEI = person("Mei")
SITES = ("clinic", "north", "south")
STAGES = """
stages:
  - {sites: [clinic], days: 7}
  - {sites: [north], days: 2}
"""
STAGED = PLAN + STAGES


@pytest.fixture
def staged(retraining: Retraining) -> Retraining:
    """A model that sites read by, under a plan with two stages before everywhere."""
    for site in SITES:
        retraining.history.add(1, at=retraining.now - timedelta(days=3), site=site)
    retraining.apply_plan(STAGED)
    return retraining


def approved(made: Retraining, *, episode: int | None = None) -> int:
    run = made.run_awaiting_approval(episode=episode)
    made.approve(run, by=MEI)
    return run


def go_on(made: Retraining, run: int) -> None:
    with made.database.transaction() as session:
        promote(session, runs.require_run(session, run), by=MEI, at=made.now)


def back(made: Retraining, site: str | None = None) -> tuple[int, int]:
    with made.database.transaction() as session:
        replaced, restored = roll_back(
            session, MODEL, reason="worse", by=MEI, at=made.now, site=site
        )
        return replaced.number, restored.number


def serves(made: Retraining) -> dict[str, int]:
    """Return the number of the version that serves, by place."""
    with made.database.reading() as session:
        return {
            place: serving.require_champion(session, MODEL, place).number
            for place in (serving.EVERYWHERE, *SITES)
        }


def state(made: Retraining, run: int) -> str:
    with made.database.reading() as session:
        return runs.require_run(session, run).state


def waits_for(made: Retraining, run: int) -> str:
    with made.database.reading() as session:
        row = runs.require_run(session, run)
        return "; ".join(staging.staging_of(session, row, at=made.now).waits_for)


def after(made: Retraining, **span: float) -> None:
    made.clock.at = made.now + timedelta(**span)


def everywhere(number: int, **sites: int) -> dict[str, int]:
    return {serving.EVERYWHERE: number, **dict.fromkeys(SITES, number), **sites}


def test_a_promotion_goes_from_stage_to_stage_and_ends_everywhere(staged: Retraining) -> None:
    episode = staged.open_episode(impact=Impact.MEASURED)
    run = approved(staged, episode=episode)
    go_on(staged, run)
    assert (serves(staged), state(staged, run)) == (everywhere(1, clinic=2), "promoting")
    after(staged, days=7)
    go_on(staged, run)
    assert serves(staged) == everywhere(1, clinic=2, north=2)
    with staged.database.reading() as session:
        assert session.get_one(EpisodeRow, episode).state == EpisodeState.OPEN
        assert "renew reference" not in {job.kind for job in session.scalars(select(Job))}
    after(staged, days=2)
    go_on(staged, run)
    assert (serves(staged), state(staged, run)) == (everywhere(2), RunState.PROMOTED)
    with staged.database.reading() as session:
        assert session.get_one(EpisodeRow, episode).state == EpisodeState.ACCEPTED
        jobs = {job.kind for job in session.scalars(select(Job))}
        kinds = [one.kind for one in ledger.entries(session, subject=f"{MODEL}@2")]
        aliases = [row.alias for row in session.scalars(select(OutboxItem))]
        plan = plans.require_plan(session, MODEL)
        counted = allowance.used(session, MODEL, at=staged.now).promotions
        open_reigns = {r.deployment for r in serving.reigns(session, MODEL) if r.until is None}
    assert "renew reference" in jobs
    assert kinds.count("champion.promoted") == 1
    assert kinds.count("champion.advanced") == 2
    assert aliases[-3:] == ["champion-clinic", "champion-north", "champion"]
    assert counted == 1, f"of plan {plan.number}: one promotion, however many stages"
    assert open_reigns == {serving.EVERYWHERE, "clinic", "north"}
    assert ledger_is_valid(staged.database)


def test_the_next_stage_waits_for_its_time_and_its_scans(staged: Retraining) -> None:
    staged.apply_plan(STAGED.replace("days: 7}", "days: 7, scans: 3}"))
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=6)
    assert "7 days at clinic end 2026-03-16 00:00; 0 of 3 scans were read" in waits_for(
        staged, run
    )
    with pytest.raises(PlanRefusedError, match="cannot go on to north: 7 days at clinic"):
        go_on(staged, run)
    after(staged, days=1)
    assert waits_for(staged, run) == "0 of 3 scans were read at clinic"


def suspended(
    made: Retraining, where: str | None, kind: Withholding = Withholding.SUSPEND
) -> Callable[[], None]:
    with made.database.transaction() as session:
        row = serving.withhold(
            session,
            model=MODEL,
            kind=kind,
            subgroup=where,
            reason="wrong",
            actor="test",
            at=made.now,
        )

    def lifted() -> None:
        with made.database.transaction() as session:
            found = next(
                one for one in serving.restrictions(session, MODEL) if one.id == row.id
            )
            serving.lift(session, found, reason="right", actor="test", at=made.now)

    return lifted


def restricted(made: Retraining, where: str | None) -> Callable[[], None]:
    return suspended(made, where or SUBGROUP, Withholding.RESTRICT)


def measured(made: Retraining, where: str | None) -> Callable[[], None]:
    episode = made.open_episode(cause=Cause.UNKNOWN, subgroup=where, impact=Impact.MEASURED)

    def closed() -> None:
        with made.database.transaction() as session:
            row = session.get_one(EpisodeRow, episode)
            row.state = EpisodeState.CLOSED.value
            seal(session, "episode.closed", row)

    return closed


def unattested(made: Retraining, where: str | None) -> Callable[[], None]:
    site = (where or "site=clinic").removeprefix("site=")
    with made.database.transaction() as session:
        runtimes.declare(session, MODEL, site, by=MEI, at=made.now)

    def withdrawn() -> None:
        with made.database.transaction() as session:
            runtimes.withdraw(session, MODEL, site, reason="none", by=MEI, at=made.now)

    return withdrawn


@pytest.mark.parametrize("happens", [suspended, restricted, measured, unattested])
def test_what_fails_where_it_serves_holds_the_next_stage_back(
    staged: Retraining, happens: Callable[..., Callable[[], None]]
) -> None:
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    over = happens(staged, "site=south")
    assert waits_for(staged, run) == "", "it does not serve there yet"
    over()
    for where in (None, "site=clinic"):
        over = happens(staged, where)
        with pytest.raises(PlanRefusedError, match="cannot go on to north"):
            go_on(staged, run)
        assert serves(staged) == everywhere(1, clinic=2)
        over()
    go_on(staged, run)
    assert serves(staged) == everywhere(1, clinic=2, north=2)


def test_a_recall_or_another_plan_holds_the_next_stage_back(staged: Retraining) -> None:
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    staged.apply_plan(f"{STAGED}\n# changed\n")
    assert waits_for(staged, run).startswith(
        "plan 4 is in force, and the approvals are of plan 3"
    )
    with staged.database.transaction() as session:
        version = find(session, f"{MODEL}@2")
        recalls.recall(session, version, reason="mislabelled", by=MEI, at=staged.now)
    staged.apply_plan(STAGED)
    assert waits_for(staged, run).startswith("pneumonia@2 was recalled on")
    with pytest.raises(PlanRefusedError, match="pneumonia@2 was recalled on"):
        go_on(staged, run)


def test_each_stage_is_watched_and_a_failed_watch_goes_no_further(staged: Retraining) -> None:
    staged.apply_plan(
        f"{STAGED}watch: {{days: 28, error_rate: 0.05, when_it_fails: suspend}}\n"
    )
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    go_on(staged, run)
    after(staged, days=8)
    with staged.database.transaction() as session:
        watched = {row.deployment: row for row in beginning.going_on(session, MODEL)}
        assert set(watched) == {"clinic", "north"}
        watch = watched["clinic"]
        beginning.end(session, watch, WatchState.FAILED, note="it fell", at=staged.now)
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.RESTRICT,
            subgroup="site=clinic",
            reason="it fell",
            actor="test",
            at=staged.now,
            because_of=find(session, f"{MODEL}@2"),
        )
    assert "its watch at clinic failed: it fell" in waits_for(staged, run)
    back(staged, "north")
    with staged.database.reading() as session:
        assert serving.restrictions(session, MODEL), (
            "what failed at the clinic serves there still"
        )
    back(staged, "clinic")
    with staged.database.reading() as session:
        assert serving.restrictions(session, MODEL) == []
        assert beginning.going_on(session, MODEL) == []


def test_an_episode_from_before_the_promotion_holds_nothing_back(staged: Retraining) -> None:
    staged.open_episode(impact=Impact.MEASURED)
    after(staged, hours=1)
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    assert waits_for(staged, run) == ""


def test_the_tick_takes_it_on_where_the_plan_acts_by_itself(staged: Retraining) -> None:
    run = approved(staged)
    go_on(staged, run)
    for days, expected in ((6, 1), (1, 2), (2, 2)):
        after(staged, days=days)
        tick(staged.database, staged.clock)
        while (claim := JobQueue(staged.database).claim("test", [ENTER_STAGE])) is not None:
            StageEnterer(staged.database, staged.clock).handle(claim)
            JobQueue(staged.database).finish(claim)
        assert serves(staged)["north"] == expected
    assert (serves(staged), state(staged, run)) == (everywhere(2), RunState.PROMOTED)
    with staged.database.reading() as session:
        [*_, last] = ledger.entries(session, kind="champion.advanced")
    assert (last.actor, last.facts["before"]) == ("driftward", f"{MODEL}@1")


def test_a_person_takes_each_step_where_the_plan_only_proposes(staged: Retraining) -> None:
    staged.apply_plan(STAGED.replace("autonomy: act", "autonomy: propose"))
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    with staged.database.transaction() as session:
        assert ask_to_enter_stages(session, at=staged.now) == 0
    go_on(staged, run)
    assert serves(staged)["north"] == 2


def test_a_rollback_takes_a_staged_promotion_back_wherever_it_has_come(
    staged: Retraining,
) -> None:
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    go_on(staged, run)
    assert back(staged) == (2, 1)
    assert (serves(staged), state(staged, run)) == (everywhere(1), RunState.SUPERSEDED)
    with staged.database.reading() as session:
        assert len(ledger.entries(session, kind="champion.rolled_back")) == 1
    assert ledger_is_valid(staged.database)


def test_a_rollback_at_one_site_ends_the_promotion_and_leaves_the_others(
    staged: Retraining,
) -> None:
    run = approved(staged)
    go_on(staged, run)
    after(staged, days=8)
    go_on(staged, run)
    assert back(staged, "clinic") == (2, 1)
    assert serves(staged) == everywhere(1, north=2)
    with staged.database.reading() as session:
        row = runs.require_run(session, run)
        assert row.state == RunState.SUPERSEDED
        assert row.note == "rolled back at clinic: worse; its candidate still serves at north"
    with pytest.raises(TransitionError):
        go_on(staged, run)
    assert back(staged, "north") == (2, 1)


def test_a_site_that_was_rolled_back_alone_stays_until_the_next_promotion(
    staged: Retraining,
) -> None:
    staged.apply_plan(PLAN)
    run = approved(staged)
    go_on(staged, run)
    assert serves(staged) == everywhere(2)
    after(staged, hours=1)
    assert back(staged, "south") == (2, 1)
    assert serves(staged) == everywhere(2, south=1)
    with pytest.raises(
        ConflictError, match=r"\(south: worse\): this was done, and pneumonia@1 serves at south"
    ):
        back(staged, "south")
    after(staged, hours=1)
    again = approved(staged)
    go_on(staged, again)
    assert serves(staged) == everywhere(3)
    after(staged, hours=1)
    assert back(staged) == (3, 2)
    assert serves(staged) == everywhere(2)
    assert ledger_is_valid(staged.database)


def test_a_site_that_nobody_knows_is_not_rolled_back(staged: Retraining) -> None:
    go_on(staged, approved(staged))
    with pytest.raises(
        NotFoundError, match=r"no scan ever came from clinc: known sites are clinic"
    ):
        back(staged, "clinc")


def test_who_may_roll_back_at_a_site_is_its_operator(staged: Retraining) -> None:
    go_on(staged, approved(staged))
    ola = Identity(
        name="Ola", roles=frozenset(), site_roles={Role.OPERATOR: frozenset({"clinic"})}
    )
    with staged.database.transaction() as session:
        roll_back(session, MODEL, reason="worse", by=ola, at=staged.now, site="clinic")
    assert serves(staged) == everywhere(1)


def test_another_run_is_not_promoted_meanwhile(staged: Retraining) -> None:
    first, second = approved(staged), approved(staged)
    go_on(staged, first)
    with pytest.raises(PlanRefusedError, match=f"run {first} serves at clinic; then north"):
        go_on(staged, second)


def test_the_restriction_is_lifted_when_the_stage_covers_its_scans(staged: Retraining) -> None:
    for subgroup, stage in ((SUBGROUP, 3), ("site=clinic & software_version=2.0", 1)):
        episode = staged.open_episode(impact=Impact.MEASURED, subgroup=subgroup)
        with staged.database.transaction() as session:
            serving.withhold(
                session,
                model=MODEL,
                kind=Withholding.RESTRICT,
                subgroup=subgroup,
                reason="test",
                actor="test",
                at=staged.now,
            )
        after(staged, hours=1)
        run = approved(staged, episode=episode)
        for number in (1, 2, 3):
            go_on(staged, run)
            with staged.database.reading() as session:
                held = subgroup in {r.subgroup for r in serving.restrictions(session, MODEL)}
            assert held == (number < stage), (subgroup, number)
            after(staged, days=8)


def test_a_first_version_is_not_staged(staged: Retraining) -> None:
    with staged.database.reading() as session:
        first = runs.require_run(session, staged.first)
        assert [str(stage) for stage in staging.stages_of(session, first)] == ["everywhere"]


def test_a_run_that_serves_somewhere_is_rolled_back_and_not_cancelled(
    staged: Retraining,
) -> None:
    run = approved(staged)
    go_on(staged, run)
    with (
        pytest.raises(TransitionError, match="driftward rollback pneumonia"),
        staged.database.transaction() as session,
    ):
        runs.cancel(session, runs.require_run(session, run), reason="no", by=MEI, at=staged.now)
