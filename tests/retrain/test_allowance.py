from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from plan_texts import with_values
from retraining_rows import (
    AT_LEAST,
    MODEL,
    PLAN,
    Retraining,
    advance,
    ledger_is_valid,
    person,
)

from monitor.episodes.episodes import Impact
from monitor.labels import Provenance
from registry import recalls, serving
from registry.errors import BadInputError, NotPermittedError, PlanRefusedError
from registry.identities import Role
from registry.versions import ref
from retrain import allowance, approvals, decisions, plans, reviews, runs
from retrain.approvals import Meaning
from retrain.decisions import Action
from retrain.promotion import promote
from retrain.rolling_back import roll_back
from retrain.states import RunState

MEI = person("Mei")


def promoted(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval()
    promote_signed(retraining, run)
    return run


def promote_signed(retraining: Retraining, run: int) -> None:
    with retraining.database.transaction() as session:
        row = runs.require_run(session, run)
        at = retraining.now
        approvals.sign(session, row, Meaning.APPROVED, by=MEI, reason="seen", at=at)
        promote(session, row, by=MEI, at=at)


def ended(retraining: Retraining, state: RunState) -> None:
    run = retraining.run_awaiting_approval()
    with retraining.database.transaction() as session:
        advance(session, runs.require_run(session, run), state, retraining.now)


def trained(retraining: Retraining, *, seconds: float) -> None:
    run = retraining.run_awaiting_approval()
    with retraining.database.transaction() as session:
        row = runs.require_run(session, run)
        row.settings = {**row.settings, "seconds": seconds}
        advance(session, row, RunState.SUPERSEDED, retraining.now)


def rolled_back(retraining: Retraining) -> None:
    promoted(retraining)
    with retraining.database.transaction() as session:
        roll_back(session, MODEL, reason="worse", by=MEI, at=retraining.now)


def reviewed(retraining: Retraining) -> None:
    with retraining.database.transaction() as session:
        reviews.review(session, MODEL, reason="looked at it all", by=MEI, at=retraining.now)


def why_no_run(retraining: Retraining) -> str | None:
    with retraining.database.reading() as session:
        plan = plans.require_plan(session, MODEL)
        return allowance.why_no_run(session, plan, at=retraining.now)


@pytest.mark.parametrize(
    ("key", "used_up", "why"),
    [
        ("runs_per_quarter", lambda one: ended(one, RunState.SUPERSEDED), "1 were begun"),
        ("compute_hours_per_quarter", lambda one: trained(one, seconds=3601), "1.00 are spent"),
        ("promotions_since_review", promoted, "changed 1 time"),
        ("unsuccessful_runs", lambda one: ended(one, RunState.REJECTED), "1 runs in a row"),
        ("unsuccessful_runs", lambda one: ended(one, RunState.REJECTED), "plan review"),
        ("rollbacks", rolled_back, "rolled back"),
    ],
)
def test_what_is_used_up_allows_no_run(
    retraining: Retraining, key: str, used_up: Callable[[Retraining], None], why: str
) -> None:
    retraining.apply_plan(with_values(PLAN, **{key: "1"}))
    assert why_no_run(retraining) is None
    used_up(retraining)
    assert why in (why_no_run(retraining) or "")


@pytest.mark.parametrize("key", ["runs_per_quarter", "compute_hours_per_quarter"])
def test_what_a_quarter_used_is_allowed_again_after_it(
    retraining: Retraining, key: str
) -> None:
    retraining.apply_plan(with_values(PLAN, **{key: "1"}))
    trained(retraining, seconds=3601)
    assert why_no_run(retraining) is not None
    retraining.clock.at += timedelta(days=91)
    assert why_no_run(retraining) is None


@pytest.mark.parametrize(
    ("key", "used_up"),
    [
        ("promotions_since_review", promoted),
        ("unsuccessful_runs", lambda one: ended(one, RunState.REJECTED)),
        ("rollbacks", rolled_back),
    ],
)
def test_a_full_review_lets_changes_count_anew(
    retraining: Retraining, key: str, used_up: Callable[[Retraining], None]
) -> None:
    retraining.apply_plan(with_values(PLAN, **{key: "1"}))
    used_up(retraining)
    retraining.clock.at += timedelta(hours=1)
    reviewed(retraining)
    assert why_no_run(retraining) is None
    assert ledger_is_valid(retraining.database)


def test_a_success_between_failures_ends_their_row(retraining: Retraining) -> None:
    retraining.apply_plan(with_values(PLAN, unsuccessful_runs="2"))
    ended(retraining, RunState.REJECTED)
    promoted(retraining)
    ended(retraining, RunState.REJECTED)
    assert why_no_run(retraining) is None
    ended(retraining, RunState.REJECTED)
    assert "2 runs in a row" in (why_no_run(retraining) or "")


@pytest.mark.parametrize(
    ("key", "value", "before", "why"),
    [
        ("days_between_promotions", "7", promoted, "wants 7 days between"),
        ("promotions_since_review", "1", promoted, "changed 1 time"),
        ("rollbacks", "1", rolled_back, "rolled back"),
    ],
)
def test_a_promotion_beyond_the_limits_is_refused_even_with_all_signatures(
    retraining: Retraining,
    key: str,
    value: str,
    before: Callable[[Retraining], None],
    why: str,
) -> None:
    retraining.apply_plan(with_values(PLAN, **{key: value}))
    before(retraining)
    run = retraining.run_awaiting_approval()
    with pytest.raises(PlanRefusedError, match=why):
        promote_signed(retraining, run)
    with retraining.database.reading() as session:
        assert runs.require_run(session, run).state == RunState.AWAITING_APPROVAL


def test_the_days_between_promotions_pass(retraining: Retraining) -> None:
    retraining.apply_plan(with_values(PLAN, days_between_promotions="7"))
    promoted(retraining)
    run = retraining.run_awaiting_approval()
    retraining.clock.at += timedelta(days=7)
    promote_signed(retraining, run)


def test_an_episode_whose_run_the_limits_forbid_becomes_a_ticket_and_a_run_when_they_allow(
    retraining: Retraining,
) -> None:
    retraining.apply_plan(with_values(PLAN, runs_per_quarter="1"))
    ended(retraining, RunState.SUPERSEDED)
    retraining.shifted(AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED, judged_scans=AT_LEAST)
    retraining.decide(episode)
    with retraining.database.reading() as session:
        made = decisions.of_episode(session, episode)
        assert [row.action for row in made] == [Action.RESTRICT, Action.TICKET]
        assert "allows 1 runs in 90 days" in made[-1].reason
    retraining.clock.at += timedelta(days=91)
    retraining.decide(episode)
    with retraining.database.reading() as session:
        [run] = [row for row in runs.all_runs(session, MODEL) if row.episode == episode]
        assert run.state == RunState.QUEUED


def test_a_review_takes_an_approver_and_a_reason(retraining: Retraining) -> None:
    with retraining.database.transaction() as session:
        with pytest.raises(NotPermittedError, match="approver"):
            reviews.review(
                session,
                MODEL,
                reason="seen",
                by=person("Ola", Role.OPERATOR),
                at=retraining.now,
            )
        with pytest.raises(BadInputError, match="reason"):
            reviews.review(session, MODEL, reason=" ", by=MEI, at=retraining.now)


def test_cumulative_change_is_measured_from_the_champion_of_the_last_review(
    retraining: Retraining,
) -> None:
    def yardstick() -> str:
        with retraining.database.reading() as session:
            version = reviews.reviewed_version(session, MODEL)
            assert version is not None
            return str(ref(version))

    first = yardstick()
    promoted(retraining)
    assert yardstick() == first == f"{MODEL}@1"
    reviewed(retraining)
    assert yardstick() == f"{MODEL}@2"


def test_nothing_is_derived_from_a_recalled_champion(retraining: Retraining) -> None:
    with retraining.database.transaction() as session:
        plan = plans.require_plan(session, MODEL)
        assert allowance.why_no_run(session, plan, at=retraining.now) is None
        champion = serving.require_champion(session, MODEL)
        recalls.recall(session, champion, reason="poisoned", by=MEI, at=retraining.now)
        found = allowance.why_no_run(session, plan, at=retraining.now)
    assert found is not None
    assert "poisoned: nothing is derived from it" in found
