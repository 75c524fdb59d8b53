from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from retraining_rows import (
    MODEL,
    PLAN,
    SUBGROUP,
    Retraining,
    advance,
    ledger_is_valid,
    person,
    seal,
)
from sqlalchemy import select
from tampering import unguarded

from monitor import references
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.monitors import require_monitor
from monitor.references import EncoderRole, FittedReference
from monitor.tables import DatasetRow, EpisodeRow
from registry import ledger, outbox, serving
from registry.errors import (
    BadInputError,
    DriftwardError,
    GateRefusedError,
    NotFoundError,
    NotPermittedError,
    PlanRefusedError,
    StaleChampionError,
    TransitionError,
)
from registry.identities import Identity, Role
from registry.jobs import Job, JobQueue
from registry.serving import Withholding
from registry.versions import VersionRef, VersionRow
from retrain import runs
from retrain.promotion import DELIVER_OUTBOX, promote, promote_version
from retrain.rolling_back import roll_back
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, RunRow

MEI, ANA = person("Mei"), person("Ana")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All that a promotion changes."""

    champion: str
    run: str
    episode: str | None
    restricted: list[str | None]
    entries: int
    jobs: int


def standing(retraining: Retraining, run: int) -> Standing:
    with retraining.database.reading() as session:
        row = runs.require_run(session, run)
        champion = serving.require_champion(session, MODEL)
        episode = session.get(EpisodeRow, row.episode) if row.episode else None
        return Standing(
            champion=f"{champion.model}@{champion.number}",
            run=row.state,
            episode=episode.state if episode else None,
            restricted=[one.subgroup for one in serving.restrictions(session, MODEL)],
            entries=ledger.verify(session).entries,
            jobs=len(session.scalars(select(Job)).all()),
        )


def sign(
    retraining: Retraining, run: int, by: Identity = MEI, decided: Sequence[str] = ()
) -> None:
    retraining.approve(run, by=by, reason="seen", decided=decided)


def promoted(retraining: Retraining, run: int) -> VersionRow:
    with retraining.database.transaction() as session:
        return promote(session, runs.require_run(session, run), by=MEI, at=retraining.now)


def restrict(retraining: Retraining) -> None:
    with retraining.database.transaction() as session:
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.RESTRICT,
            subgroup=SUBGROUP,
            reason="test",
            actor="test",
            at=retraining.now,
        )


def signed_run(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval()
    sign(retraining, run)
    return run


def test_a_promotion_moves_champion_run_episode_and_restriction_together(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode(impact=Impact.MEASURED)
    run = retraining.run_awaiting_approval(episode=episode)
    restrict(retraining)
    sign(retraining, run)
    assert promoted(retraining, run).number == 2
    after = standing(retraining, run)
    assert (after.champion, after.run) == (f"{MODEL}@2", RunState.PROMOTED)
    assert (after.episode, after.restricted) == (EpisodeState.ACCEPTED, [])
    with retraining.database.reading() as session:
        queued = {job.key for job in session.scalars(select(Job))}
    assert queued == {"deliver outbox", f"renew reference/run {run}"}
    with retraining.database.reading() as session:
        assert outbox.backlog(session) is not None
    assert ledger_is_valid(retraining.database)


def test_a_rollback_puts_back_the_restriction_that_the_promotion_had_lifted(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode(impact=Impact.MEASURED)
    run = retraining.run_awaiting_approval(episode=episode)
    restrict(retraining)
    sign(retraining, run)
    promoted(retraining, run)
    with retraining.database.transaction() as session:
        roll_back(session, MODEL, reason="worse in the clinic", by=MEI, at=retraining.now)
    with retraining.database.reading() as session:
        [restriction] = serving.restrictions(session, MODEL)
    assert restriction.subgroup == SUBGROUP
    assert "was rolled back" in restriction.reason
    assert ledger_is_valid(retraining.database)


def test_other_restrictions_and_a_person_s_suspension_outlive_a_promotion(
    retraining: Retraining,
) -> None:
    episode = retraining.open_episode(subgroup=None, impact=Impact.MEASURED)
    run = retraining.run_awaiting_approval(episode=episode)
    kinds = ((Withholding.SUSPEND, None), (Withholding.RESTRICT, "view=PA"))
    with retraining.database.transaction() as session:
        for kind, subgroup in kinds:
            serving.withhold(
                session,
                model=MODEL,
                kind=kind,
                subgroup=subgroup,
                reason="a person said so",
                actor="test",
                at=retraining.now,
            )
    sign(retraining, run)
    promoted(retraining, run)
    assert standing(retraining, run).restricted == [None, "view=PA"]


def gate_failed(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval(outcomes=["passed", "failed"])
    sign(retraining, run)
    return run


def gate_not_evaluable(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval(outcomes=["not_evaluable", "passed"])
    sign(retraining, run)
    return run


def no_gates(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval(outcomes=[])
    sign(retraining, run)
    return run


def approval_missing(retraining: Retraining) -> int:
    return retraining.run_awaiting_approval()


def one_of_two_approvals_missing(retraining: Retraining) -> int:
    retraining.apply_plan(PLAN.replace("people: 1", "people: 2"))
    return signed_run(retraining)


def plan_changed(retraining: Retraining) -> int:
    run = signed_run(retraining)
    retraining.apply_plan(f"{PLAN}\n# reviewed\n")
    return run


def no_authority(retraining: Retraining) -> int:
    retraining.apply_plan(PLAN.replace("authority: research", "authority: none"))
    return signed_run(retraining)


def gate_edited_after_the_signature(retraining: Retraining) -> int:
    run = retraining.run_awaiting_approval()
    sign(retraining, run)
    with unguarded(retraining.database) as session:
        gate = runs.gate_outcomes(session, run)[0]
        gate.detail = {"estimate": 0.99}
        seal(session, "gates.evaluated", gate, subject=f"run {run}")
    return run


def gate_failed_until_edited(retraining: Retraining) -> int:
    run = gate_failed(retraining)
    with unguarded(retraining.database) as session:
        for gate in runs.gate_outcomes(session, run):
            gate.outcome = "passed"
            seal(session, "gates.evaluated", gate, subject=f"run {run}")
    return run


def champion_stale(retraining: Retraining) -> int:
    run, other = signed_run(retraining), signed_run(retraining)
    promoted(retraining, other)
    return run


def promoted_already(retraining: Retraining) -> int:
    run = signed_run(retraining)
    promoted(retraining, run)
    with retraining.database.transaction() as session:
        roll_back(session, MODEL, reason="test", by=MEI, at=retraining.now)
    return run


@pytest.mark.parametrize(
    ("prepare", "refusal", "words"),
    [
        (gate_failed, GateRefusedError, "gates not passed: non_inferiority_on_reference"),
        (
            gate_not_evaluable,
            GateRefusedError,
            "gates not passed: superiority_where_it_drifted",
        ),
        (no_gates, GateRefusedError, "none of its gates was evaluated"),
        (approval_missing, PlanRefusedError, "lacks 1 approval"),
        (one_of_two_approvals_missing, PlanRefusedError, "lacks 1 approval"),
        (plan_changed, PlanRefusedError, "is in force now"),
        (no_authority, PlanRefusedError, "gives no authority"),
        (gate_edited_after_the_signature, PlanRefusedError, "lacks 1 approval"),
        (gate_failed_until_edited, PlanRefusedError, "lacks 1 approval"),
        (champion_stale, StaleChampionError, f"champion of {MODEL} is {MODEL}@3"),
        (promoted_already, TransitionError, "it has ended"),
    ],
)
def test_a_refused_promotion_changes_nothing(
    retraining: Retraining,
    prepare: Callable[[Retraining], int],
    refusal: type[DriftwardError],
    words: str,
) -> None:
    run = prepare(retraining)
    before = standing(retraining, run)
    with pytest.raises(refusal, match=words):
        promoted(retraining, run)
    assert standing(retraining, run) == before
    assert ledger_is_valid(retraining.database)


@pytest.mark.parametrize("state", [RunState.REJECTED, RunState.SUPERSEDED])
def test_a_run_that_ended_otherwise_is_not_promoted(
    retraining: Retraining, state: RunState
) -> None:
    run = signed_run(retraining)
    with retraining.database.transaction() as session:
        advance(session, runs.require_run(session, run), state, retraining.now)
    before = standing(retraining, run)
    with pytest.raises(TransitionError):
        promoted(retraining, run)
    assert standing(retraining, run) == before


def test_promoting_takes_the_role_of_an_operator(retraining: Retraining) -> None:
    run = signed_run(retraining)
    with (
        pytest.raises(NotPermittedError, match="takes the role operator"),
        retraining.database.transaction() as session,
    ):
        promote(
            session,
            runs.require_run(session, run),
            by=person("Ana", Role.APPROVER),
            at=retraining.now,
        )


def test_a_version_is_promoted_by_the_run_that_made_it(retraining: Retraining) -> None:
    run = signed_run(retraining)
    with retraining.database.transaction() as session:
        promote_version(session, VersionRef.parse(f"{MODEL}@2"), by=MEI, at=retraining.now)
    assert standing(retraining, run).champion == f"{MODEL}@2"


def test_an_imported_version_that_no_run_made_is_not_promoted(retraining: Retraining) -> None:
    run = retraining.run_awaiting_approval()
    before = standing(retraining, run)
    with (
        pytest.raises(PlanRefusedError, match="is no run's candidate"),
        retraining.database.transaction() as session,
    ):
        promote_version(session, VersionRef.parse("general@1"), by=MEI, at=retraining.now)
    assert standing(retraining, run) == before


def test_a_rollback_restores_the_version_before_and_the_ledger_says_why(
    retraining: Retraining,
) -> None:
    promoted(retraining, signed_run(retraining))
    with retraining.database.transaction() as session:
        replaced, restored = roll_back(
            session, MODEL, reason="worse at the north site", by=ANA, at=retraining.now
        )
    assert (replaced.number, restored.number) == (2, 1)
    with retraining.database.reading() as session:
        assert serving.require_champion(session, MODEL).number == 1
        [entry] = [
            entry for entry in ledger.entries(session) if entry.kind == "champion.rolled_back"
        ]
    assert entry.actor == "Ana"
    assert entry.facts["reason"] == "worse at the north site"
    assert entry.facts["before"] == f"{MODEL}@2"
    assert ledger_is_valid(retraining.database)


def test_rolling_back_twice_never_returns_to_what_was_rolled_back(
    retraining: Retraining,
) -> None:
    for _ in range(2):
        promoted(retraining, signed_run(retraining))

    def back() -> int:
        with retraining.database.transaction() as session:
            seen = serving.require_champion(session, MODEL)
            return roll_back(
                session, MODEL, reason="test", by=MEI, at=retraining.now, seen=seen
            )[1].number

    assert [back(), back()] == [2, 1]
    with pytest.raises(NotFoundError, match="had no champion before"):
        back()


def test_a_rollback_brings_mlflow_in_line_by_the_one_job_that_does(
    retraining: Retraining,
) -> None:
    promoted(retraining, signed_run(retraining))
    queue = JobQueue(retraining.database)
    told = queue.claim("test", [DELIVER_OUTBOX])
    assert told is not None
    queue.finish(told)
    assert queue.claim("test", [DELIVER_OUTBOX]) is None
    with retraining.database.transaction() as session:
        roll_back(session, MODEL, reason="test", by=MEI, at=retraining.now)
    again = queue.claim("test", [DELIVER_OUTBOX])
    assert again is not None
    assert again.job == told.job


def test_rolling_back_takes_the_role_of_an_operator(retraining: Retraining) -> None:
    promoted(retraining, signed_run(retraining))
    with (
        pytest.raises(NotPermittedError),
        retraining.database.transaction() as session,
    ):
        roll_back(
            session, MODEL, reason="test", by=person("Vi", Role.VIEWER), at=retraining.now
        )


def test_rows_of_gates_and_runs_are_sealed(retraining: Retraining) -> None:
    run = signed_run(retraining)
    with unguarded(retraining.database) as session:
        gate = session.scalars(select(GateOutcomeRow).where(GateOutcomeRow.run == run)).first()
        assert gate is not None
        gate.sentence = "It was never measured."
    assert not ledger_is_valid(retraining.database)
    with unguarded(retraining.database) as session:
        gate = session.get_one(GateOutcomeRow, gate.id)
        gate.sentence = "It was measured."
        session.get_one(RunRow, run).seed = 9
    assert not ledger_is_valid(retraining.database)


def with_subgroups_left_to_people() -> str:
    return PLAN.replace(
        "  required:\n", "  people_decide: [subgroups]\n  required:\n    - subgroups\n"
    ).replace("declared: []", "declared: [{attribute: sex, value: F}]")


@pytest.mark.parametrize("outcome", ["not_evaluable", "failed"])
def test_people_decide_what_the_evidence_cannot_and_nothing_that_failed(
    retraining: Retraining, outcome: str
) -> None:
    retraining.apply_plan(with_subgroups_left_to_people())
    run = retraining.run_awaiting_approval(outcomes=(outcome,))
    sign(retraining, run, decided=["subgroups"] if outcome == "not_evaluable" else [])
    if outcome == "failed":
        with pytest.raises(GateRefusedError, match="gates not passed: subgroups"):
            promoted(retraining, run)
    else:
        assert promoted(retraining, run).number == 2


def test_a_gate_that_the_plan_does_not_leave_to_people_refuses_if_it_is_not_evaluable(
    retraining: Retraining,
) -> None:
    retraining.apply_plan(with_subgroups_left_to_people())
    run = retraining.run_awaiting_approval(outcomes=("passed", "not_evaluable"))
    sign(retraining, run)
    with pytest.raises(GateRefusedError, match="gates not passed: superiority"):
        promoted(retraining, run)


def test_who_approves_names_what_is_left_to_them(retraining: Retraining) -> None:
    retraining.apply_plan(with_subgroups_left_to_people())
    run = retraining.run_awaiting_approval(outcomes=("not_evaluable",))
    for wrong in ([], ["calibration"]):
        with pytest.raises(BadInputError, match="approve with --decide subgroups"):
            sign(retraining, run, decided=wrong)
    sign(retraining, run, decided=["subgroups"])
    with retraining.database.reading() as session:
        [entry] = [
            one
            for one in ledger.entries(session, subject=f"run {run}")
            if one.kind == "approval.approved"
        ]
    assert entry.facts["decided"] == ["subgroups"]
    plain = retraining.run_awaiting_approval()
    with pytest.raises(BadInputError, match="leaves no gate to people"):
        sign(retraining, plain, decided=["subgroups"])


def test_a_rollback_puts_back_the_reference_that_the_restored_version_had(
    retraining: Retraining,
) -> None:
    first = retraining.history.accept_reference(320)
    run = signed_run(retraining)
    candidate = promoted(retraining, run)
    with retraining.database.transaction() as session:
        monitor = require_monitor(session, "chest")
        dataset = session.get_one(DatasetRow, first[0].dataset)
        fitted = [
            FittedReference(
                encoder=EncoderRole(row.encoder),
                version=candidate
                if row.encoder == EncoderRole.CHAMPION
                else session.get_one(VersionRow, row.version),
                profile_digest=row.profile_digest,
                subgroups=(),
            )
            for row in first
        ]
        references.accept(
            session,
            monitor,
            fitted,
            dataset=dataset,
            reason="renewed",
            actor="test",
            at=retraining.now + timedelta(days=1),
        )
    with retraining.database.transaction() as session:
        roll_back(session, MODEL, reason="worse", by=MEI, at=retraining.now + timedelta(days=2))
    with retraining.database.reading() as session:
        back = references.deciding(session, "chest")
        assert [row.id for row in back] == [row.id for row in first]
        assert all(row.retired_at is None for row in back)
        trend = references.trend(session, "chest")
        assert trend is not None
        assert trend.id in {row.id for row in first}
    assert ledger_is_valid(retraining.database)
