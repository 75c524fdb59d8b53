"""A candidate in shadow: what it is compared on, when it ends, and what a signature covers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from plan_texts import with_values
from retraining_rows import (
    MODEL,
    PLAN,
    Retraining,
    add_results,
    advance,
    candidate_of,
    ledger_is_valid,
    person,
)
from sqlalchemy import select
from statsmodels.stats.proportion import proportion_confint

from monitor.labels import Provenance
from registry import ledger, serving
from registry.errors import PlanError
from registry.jobs import Job, JobQueue
from registry.versions import VersionRow
from registry.worker import Worker
from retrain import approvals, runs
from retrain.change_plan import parse_plan
from retrain.promotion import promote
from retrain.scheduling import tick
from retrain.shadow.comparison import PairedCalls, disagreement
from retrain.shadow.ending import COMPARED, END_SHADOW, ShadowEnder, shadow_record
from retrain.shadow.reading import in_shadow
from retrain.states import RunState

DAYS = 7


@pytest.fixture
def shadowed(retraining: Retraining) -> Retraining:
    """A model whose plan asks for a week of shadow and ten scans."""
    text = with_values(PLAN, shadow_days=str(DAYS)) + "shadow_scans: 10\n"
    retraining.apply_plan(text)
    return retraining


def read_by_both(
    retraining: Retraining, champion: Sequence[float], candidate: Sequence[float]
) -> list[int]:
    """Add scans of new patients that arrive now, and what both said of them."""
    scans = retraining.history.add(len(champion), at=retraining.now, probabilities=champion)
    with retraining.database.transaction() as session:
        version = session.scalars(
            select(VersionRow).where(VersionRow.model == MODEL).order_by(VersionRow.id.desc())
        ).first()
        assert version is not None
        add_results(
            session,
            version,
            dict(zip(scans, candidate, strict=False)),
            threshold=0.4,
            delivery="background",
            at=retraining.now,
        )
    return scans


def go_on(retraining: Retraining, **span: float) -> int:
    """Let time pass, then tick, and let a worker end what is over; returns what was queued."""
    retraining.clock.at += timedelta(**span)
    tick(retraining.database, retraining.clock)
    with retraining.database.reading() as session:
        queued = session.scalars(
            select(Job).where(Job.kind == END_SHADOW, Job.state == "queued")
        ).all()
    ender = ShadowEnder(retraining.database, retraining.clock)
    Worker(JobQueue(retraining.database), {END_SHADOW: ender.handle}).drain()
    return len(queued)


def state_of(retraining: Retraining, run: int) -> str:
    with retraining.database.reading() as session:
        return runs.require_run(session, run).state


def test_a_shadow_ends_when_its_days_are_over_and_both_read_enough(
    shadowed: Retraining,
) -> None:
    run = shadowed.run_in_shadow()
    read_by_both(shadowed, [0.2] * 9, [0.2] * 9)
    assert go_on(shadowed, days=DAYS, seconds=-1) == 0
    assert go_on(shadowed, seconds=1) == 0, "nine scans are fewer than ten"
    assert state_of(shadowed, run) == RunState.SHADOW
    read_by_both(shadowed, [0.2], [0.2])
    assert go_on(shadowed, minutes=1) == 1
    assert state_of(shadowed, run) == RunState.AWAITING_APPROVAL
    assert go_on(shadowed, days=1) == 0
    with shadowed.database.reading() as session:
        [entry] = ledger.entries(session, kind=COMPARED)
        note = runs.require_run(session, run).note
    assert entry.subject == f"run {run}"
    assert entry.facts["by_both"] == 10
    assert note.startswith("7 days of shadow are over: both read 10 of the champion's 10 scans")
    assert ledger_is_valid(shadowed.database)


def test_what_is_compared_is_counted_by_hand(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    shadowed.clock.at += timedelta(hours=1)
    # Thresholds: 0.5 of the champion, 0.4 of the candidate; the last is read by one alone.
    champion = [0.6, 0.6, 0.1, 0.1, 0.45, 0.1, 0.9, 0.2, 0.3, 0.7, 0.5]
    candidate = [0.7, 0.2, 0.1, 0.5, 0.45, 0.3, 0.9, 0.2, 0.1, 0.6]
    scans = read_by_both(shadowed, champion, candidate)
    shadowed.label(scans[:6], values=[1, 1, 0, 0, 1, 0], signed_at=shadowed.now)
    # Signed when the champion's result had been delivered.
    shadowed.clock.at += timedelta(days=5)
    shadowed.label(
        scans[6:8],
        values=[1, 0],
        provenance=Provenance.ADJUDICATED,
        signed_at=shadowed.now,
    )
    with shadowed.database.reading() as session:
        record = shadow_record(session, runs.require_run(session, run), at=shadowed.now)
    assert record is not None
    assert (record["by_champion"], record["by_both"]) == (11, 10)
    found = record["disagreement"]
    assert [
        found[name]["count"] for name in ("different", "newly_positive", "newly_negative")
    ] == [
        3,
        2,
        1,
    ]
    expected = proportion_confint(3, 10, alpha=0.05, method="wilson")
    assert (found["different"]["low"], found["different"]["high"]) == pytest.approx(expected)
    assert found["mean_difference"] == pytest.approx(
        np.abs(np.subtract(champion[:10], candidate)).mean()
    )
    right = {
        who: [(record[who][name]["count"], record[who][name]["scans"]) for name in record[who]]
        for who in ("champion", "candidate")
    }
    assert (record["labelled"], record["ai_influenced"]) == (6, 2)
    assert right == {"champion": [(2, 3), (3, 3)], "candidate": [(2, 3), (2, 3)]}


def test_scans_of_one_patient_widen_the_interval() -> None:
    calls = np.array([True] * 6 + [False] * 14)
    none = np.zeros(20, dtype=bool)

    def width(patients: Sequence[str]) -> float:
        found = disagreement(
            PairedCalls(
                champion=none.astype(float),
                candidate=calls.astype(float),
                champion_calls=none,
                candidate_calls=calls,
                patients=np.array(patients),
            )
        )
        assert found is not None
        assert found.newly_positive == found.different
        return found.different.interval.high - found.different.interval.low

    alone = width([str(number) for number in range(20)])
    assert width([str(number // 2) for number in range(20)]) > 1.2 * alone


def test_what_came_before_the_shadow_is_no_part_of_it(shadowed: Retraining) -> None:
    before = shadowed.history.add(3, at=shadowed.now, probabilities=[0.1] * 3)
    shadowed.clock.at += timedelta(hours=1)
    run = shadowed.run_in_shadow()
    with shadowed.database.reading() as session:
        row = runs.require_run(session, run)
        [shadow] = in_shadow(session, MODEL)
        assert shadow.since == shadowed.now
        assert shadow.version.id == row.candidate
        record = shadow_record(session, row, at=shadowed.now + timedelta(hours=1))
    assert before
    assert record is not None
    assert (record["by_champion"], record["disagreement"]) == (0, None)


def test_another_champion_supersedes_a_run_in_shadow(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    with shadowed.database.transaction() as session:
        champion = serving.require_champion(session, MODEL)
        other = candidate_of(session, champion)
        serving.move_champion(
            session,
            other,
            expected=champion.id,
            reason="test",
            kind="champion.promoted",
            actor="test",
            at=shadowed.now,
        )
    with shadowed.database.reading() as session:
        assert not in_shadow(session, MODEL), "it reads no more, tick or none"
    assert go_on(shadowed, days=DAYS) == 0
    assert state_of(shadowed, run) == RunState.SUPERSEDED
    with shadowed.database.reading() as session:
        assert runs.require_run(session, run).note == (
            f"its champion {MODEL}@1 was replaced: {MODEL}@3 serves now"
        )


def test_a_champion_replaced_before_the_job_supersedes_there_too(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    read_by_both(shadowed, [0.2] * 10, [0.2] * 10)
    shadowed.clock.at += timedelta(days=DAYS)
    tick(shadowed.database, shadowed.clock)
    with shadowed.database.transaction() as session:
        champion = serving.require_champion(session, MODEL)
        serving.move_champion(
            session,
            candidate_of(session, champion),
            expected=champion.id,
            reason="test",
            kind="champion.promoted",
            actor="test",
            at=shadowed.now,
        )
    claim = JobQueue(shadowed.database).claim("test", [END_SHADOW])
    assert claim is not None
    ShadowEnder(shadowed.database, shadowed.clock).handle(claim)
    assert state_of(shadowed, run) == RunState.SUPERSEDED
    with shadowed.database.reading() as session:
        assert ledger.entries(session, kind=COMPARED) == []


def test_a_signature_covers_the_shadow_and_a_promotion_follows(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    with shadowed.database.reading() as session:
        before = approvals.seen_parts(session, runs.require_run(session, run))
    read_by_both(shadowed, [0.2] * 10, [0.6] * 10)
    go_on(shadowed, days=DAYS)
    with shadowed.database.reading() as session:
        after = approvals.seen_parts(session, runs.require_run(session, run))
    assert {name for name in after if after[name] != before[name]} == {"shadow"}
    mei = person("Mei")
    shadowed.approve(run, by=mei)
    with shadowed.database.transaction() as session:
        row = runs.require_run(session, run)
        promote(session, row, by=mei, at=shadowed.now)
    assert state_of(shadowed, run) == RunState.PROMOTED
    with shadowed.database.reading() as session:
        row = runs.require_run(session, run)
        record = shadow_record(session, row, at=shadowed.now)
    assert record is not None
    assert record["disagreement"]["newly_positive"]["count"] == 10


def test_what_a_run_notes_meanwhile_does_not_move_its_beginning(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    began = shadowed.now
    shadowed.clock.at += timedelta(days=2)
    with shadowed.database.transaction() as session:
        row = runs.require_run(session, run)
        runs.annotate(session, row, "looked at", actor="test", at=shadowed.now)
    with shadowed.database.reading() as session:
        assert in_shadow(session, MODEL)[0].since == began


def test_a_run_that_was_rejected_in_shadow_stays_so(shadowed: Retraining) -> None:
    run = shadowed.run_in_shadow()
    read_by_both(shadowed, [0.2] * 10, [0.2] * 10)
    shadowed.clock.at += timedelta(days=DAYS)
    tick(shadowed.database, shadowed.clock)
    with shadowed.database.transaction() as session:
        advance(session, runs.require_run(session, run), RunState.REJECTED, shadowed.now)
    go_on(shadowed, minutes=1)
    assert state_of(shadowed, run) == RunState.REJECTED


def test_scans_without_days_are_refused() -> None:
    with pytest.raises(PlanError, match="take a shadow_days above 0"):
        parse_plan(f"{PLAN}\nshadow_scans: 10\n", source="plan.yaml")
