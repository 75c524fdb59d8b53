"""The whole loop, small and real: every scan is a DICOM file, every model is trained and gated."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from small_installation import (
    ANCHOR,
    BROKEN,
    HALF_WEEK,
    MODEL,
    SmallInstallation,
    plan_text,
    recipe,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.demo.acquisition import OLD_SOFTWARE, Processing
from monitor import references
from monitor.assembling.assembler import ASSEMBLE
from monitor.datasets import Purpose
from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.monitors import apply_monitor, parse_monitor
from monitor.performance import performance
from monitor.reference_building import build_references
from monitor.references import EncoderRole
from monitor.tables import EmbeddingRow, ResultRow, ScanRow
from registry import ledger, outbox, serving
from registry.database import Base
from registry.jobs import Job, JobState
from registry.versions import find
from retrain import approvals, decisions, plans, runs
from retrain.acquisition_changes import CHANGES
from retrain.approvals import Meaning
from retrain.decisions import Action
from retrain.gates.outcome import Gate
from retrain.gates.robustness import robustness
from retrain.gathering import Gatherer
from retrain.promotion import promote
from retrain.readers import BundleReader
from retrain.scheduling import tick
from retrain.stage_entering import ENTER_STAGE
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.watching.looking import WATCH

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]

HISTORY, WINDOW, SHIFTED = 460, 40, 150
UPDATED = f"software_version={BROKEN.version}"
MONITOR = f"""
name: chest
model: {MODEL}
task: pneumonia
monitoring_encoder: general@1
window_hours: 84
alpha_per_week: 0.005
subgroup_attributes: [software_version]
floor: 20
anchor: {ANCHOR.isoformat()}
"""


def plan_with_times() -> str:
    """Return the small installation's plan with the gate that times scans."""
    return plan_text(latency_ratio="5").replace(
        "    - parity\n", "    - latency_and_size\n    - parity\n"
    )


class Life:
    """What happened to one installation, and what it was seen to be on the way."""

    def __init__(self, made: SmallInstallation) -> None:
        self.made, self.database = made, made.driftward.database

    def begin(self) -> None:
        made = self.made
        made.found(plan_with_times())
        made.receive(HISTORY)
        made.label(since=made.clock.at)
        self.first = start_first_run(
            self.database,
            recipe(),
            since=None,
            until=None,
            seed=0,
            by=made.operator,
            clock=made.clock,
        ).id
        made.work()
        self.first_trained = made.run(self.first)
        self.promote(self.first)
        made.clock.at = ANCHOR
        with self.database.transaction() as session:
            apply_monitor(
                session,
                parse_monitor(MONITOR, source="monitor.yaml"),
                actor=made.operator.name,
                at=made.clock.at,
            )
        build_references(
            self.database,
            made.driftward.embedder,
            made.driftward.profiles,
            "chest",
            since=None,
            until=None,
            by=made.operator,
            at=made.clock.at,
        )
        with self.database.reading() as session:
            trend = references.trend(session, "chest")
            assert trend is not None
            self.trend = trend.id
            self.references = [row.id for row in references.deciding(session, "chest")]

    def window(self, number: int, count: int, software: Processing) -> None:
        """Let half a week pass: scans come, the tick asks for what is due, a worker does it."""
        self.made.clock.at = ANCHOR + number * HALF_WEEK + timedelta(hours=1)
        self.made.receive(count, software=software)
        self.made.clock.at = ANCHOR + (number + 1) * HALF_WEEK
        tick(self.database, self.made.clock)
        self.made.work()

    def promote(self, number: int) -> None:
        with self.database.transaction() as session:
            run = runs.require_run(session, number)
            assert run.state == RunState.AWAITING_APPROVAL, (
                run.note,
                self.made.gates(number, words=True),
                self.made.failed_jobs(),
            )
            approvals.sign(
                session,
                run,
                Meaning.APPROVED,
                by=self.made.operator,
                reason="gates seen",
                at=self.made.clock.at,
            )
            promote(session, run, by=self.made.operator, at=self.made.clock.at)
        self.made.work()

    def alias(self) -> str | None:
        """Return the version that MLflow calls champion, as the database numbers it."""
        number = self.made.driftward.tracking.alias(MODEL, "champion")
        with self.database.reading() as session:
            for version in (find(session, f"{MODEL}@1"), find(session, f"{MODEL}@2")):
                if version.mlflow_version == number:
                    return f"{version.model}@{version.number}"
        return None


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Life:
    """Live through calm, shift, repair and a week after; assertions on the way are its own."""
    made = SmallInstallation(tmp_path_factory.mktemp("life"), empty_mlflow=empty_mlflow)
    lived = Life(made)
    lived.begin()
    lived.window(0, WINDOW, OLD_SOFTWARE)
    with lived.database.reading() as session:
        assert episodes.all_episodes(session) == []
    lived.window(1, SHIFTED, BROKEN)
    lived.window(2, SHIFTED, BROKEN)
    with lived.database.reading() as session:
        found = episodes.open_episodes(session, "chest")
        assert len(found) == 1, made.failed_jobs()
        opened = found[0]
        assert serving.restrictions(session, MODEL), opened.evidence
        run = runs.all_runs(session, MODEL)[0]
        assert run.state == RunState.AWAITING_LABELS
        lived.repair, lived.episode = run.id, opened.id
    lived.window(3, WINDOW, BROKEN)
    made.label(since=ANCHOR)
    made.work()
    lived.promote(lived.repair)
    made.clock.at += timedelta(hours=1)
    lived.window(4, WINDOW, BROKEN)
    made.label(since=ANCHOR + 4 * HALF_WEEK)
    made.work()
    return lived


def test_no_job_failed(life: Life) -> None:
    assert life.made.failed_jobs() == []
    with life.database.reading() as session:
        states = set(session.scalars(select(Job.state)))
    assert states == {JobState.DONE}


def test_the_first_version_passed_its_gates_and_derives_from_the_general_encoder(
    life: Life,
) -> None:
    assert life.first_trained.state == RunState.AWAITING_APPROVAL
    assert set(life.made.gates(life.first).values()) == {"passed"}
    with life.database.reading() as session:
        version = find(session, f"{MODEL}@1")
        assert version.base == find(session, "general@1").id


def test_the_episode_names_the_update_and_what_labels_say_of_it(life: Life) -> None:
    with life.database.reading() as session:
        [row] = episodes.all_episodes(session)
        made = decisions.of_episode(session, row.id)
    assert row.cause == Cause.ACQUISITION
    assert row.subgroup == UPDATED
    assert row.impact == Impact.MEASURED
    # The first scans of that window arrive an hour later.
    assert row.onset == ANCHOR + HALF_WEEK + timedelta(hours=1)
    assert row.evidence["impact"]["falls"]
    # Whose it is stays said, though another version serves by now.
    assert row.evidence["impact"]["version"] == f"{MODEL}@1"
    assert row.state == EpisodeState.ACCEPTED
    assert [step.action for step in made] == [
        Action.RESTRICT,
        Action.LABEL_REQUEST,
        Action.RUN,
    ]


def test_the_run_ended_as_promoted_and_its_candidate_is_the_champion_everywhere(
    life: Life,
) -> None:
    assert life.made.run(life.repair).state == RunState.PROMOTED
    gates = life.made.gates(life.repair)
    assert "latency_and_size" in gates
    assert set(gates.values()) == {"passed"}
    with life.database.reading() as session:
        champion = serving.require_champion(session, MODEL)
        assert champion.number == 2
        assert champion.base == find(session, f"{MODEL}@1").id
        reigns = [reign.version for reign in serving.reigns(session, MODEL)]
    assert len(reigns) == 2
    assert life.alias() == f"{MODEL}@2"
    with life.database.reading() as session:
        assert outbox.backlog(session) is None


def test_both_versions_read_the_reference_anew_under_each_small_change(life: Life) -> None:
    driftward, run = life.made.driftward, life.made.run(life.repair)
    with life.database.reading() as session:
        plan = plans.by_id(session, run.plan)
        candidate = find(session, f"{MODEL}@2")
    evidence = Gatherer(
        driftward.database, BundleReader(driftward.bundles, driftward.embedder)
    ).against_champion(
        run,
        candidate,
        plan.plan.gates.model_copy(update={"required": [Gate.ROBUSTNESS]}),
        dict.fromkeys((Purpose.LOCKED_REFERENCE, Purpose.LOCKED_DRIFTED), 0),
    )
    as_it_is, changed = evidence.reference, evidence.changed
    assert list(changed) == list(CHANGES)
    outcome = robustness(as_it_is, changed=changed, limits=plan.plan.gates.limits)
    assert len(outcome.parts) == 2 * len(CHANGES)
    for results in changed.values():
        assert (results.champion != as_it_is.champion).any()
        assert (results.candidate != as_it_is.candidate).any()


def test_results_were_withheld_while_the_subgroup_was_restricted_and_no_longer(
    life: Life,
) -> None:
    def deliveries(session: Session, window: int, version: int) -> set[str]:
        start = ANCHOR + window * HALF_WEEK
        return set(
            session.scalars(
                select(ResultRow.delivery)
                .join(ScanRow, ScanRow.id == ResultRow.scan)
                .where(
                    ScanRow.arrived_at >= start,
                    ScanRow.arrived_at < start + HALF_WEEK,
                    ResultRow.version == version,
                )
            )
        )

    with life.database.reading() as session:
        before, after = (find(session, f"{MODEL}@{number}").id for number in (1, 2))
        assert deliveries(session, 0, before) == {"delivered"}
        assert deliveries(session, 1, before) == {"delivered"}, "nobody knew yet"
        assert deliveries(session, 3, before) == {"withheld"}
        assert deliveries(session, 4, after) == {"delivered"}
        assert serving.restrictions(session, MODEL) == []


def test_references_are_renewed_and_the_trend_s_stays(life: Life) -> None:
    with life.database.reading() as session:
        deciding = references.deciding(session, "chest")
        trend = references.trend(session, "chest")
        champion = serving.require_champion(session, MODEL)
    assert not {row.id for row in deciding} & set(life.references)
    assert {row.encoder: row.version for row in deciding}[EncoderRole.CHAMPION] == champion.id
    assert trend is not None
    assert (trend.id, trend.retired_at) == (life.trend, None)


def test_the_shift_is_accepted_afterwards_and_the_trend_still_shows_it(life: Life) -> None:
    from monitor.tables import VerdictRow

    with life.database.reading() as session:
        assert len(episodes.all_episodes(session)) == 1
        after = session.scalars(
            select(VerdictRow).where(
                VerdictRow.start >= ANCHOR + 4 * HALF_WEEK, VerdictRow.subgroup == ""
            )
        ).all()
        deciding = {row.id for row in references.deciding(session, "chest")}
    trend = [row.p_value for row in after if row.reference == life.trend]
    assert len(trend) == 1
    assert max(trend) < 0.005
    assert min(row.p_value for row in after if row.reference in deciding) > 0.0005


def test_each_week_is_measured_on_the_version_that_served_it(life: Life) -> None:
    with life.database.reading() as session:
        before, after = (find(session, f"{MODEL}@{number}").id for number in (1, 2))
        measured = [(row.version, row.scans) for row in performance.newest(session, "chest")]
    weeks = [WINDOW + SHIFTED, SHIFTED + WINDOW, WINDOW]
    assert measured == list(zip((before, before, after), weeks, strict=True))


def test_the_ledger_is_valid(life: Life) -> None:
    with life.database.reading() as session:
        found = ledger.verify(session)
    assert found.fault is None
    assert found.entries > 40


def counts(session: Session) -> dict[str, int]:
    """Return how many rows each table holds, but for the jobs'."""
    return {
        table.name: session.scalar(select(func.count()).select_from(table)) or 0
        for table in Base.metadata.sorted_tables
        if table.name != "jobs"
    }


def test_every_job_done_a_second_time_changes_nothing(life: Life) -> None:
    made = life.made
    claims = {claim.job: claim for claim in made.jobs.claims}
    kinds = {claim.kind for claim in claims.values()}
    # What this monitor watches are instances: nothing is assembled.
    # Nothing is signed without a folder for it; this plan has no shadow, stages or watch.
    not_asked = {ASSEMBLE, "sign checkpoint", "end shadow", ENTER_STAGE, WATCH}
    assert kinds == set(made.driftward.handlers) - not_asked
    # Measurements are stored anew on purpose, as their labels may have changed.
    again = [claim for claim in claims.values() if claim.kind != "measure"]
    with life.database.reading() as session:
        before = counts(session), session.scalar(select(func.count(EmbeddingRow.id)))
        alias, state = life.alias(), made.run(life.repair).state
    queue = made.jobs.worker._queue
    for claim in again:
        with life.database.transaction() as session:
            session.get_one(Job, claim.job).state = JobState.QUEUED
            session.get_one(Job, claim.job).attempts = 0
        taken = queue.claim("again", [claim.kind])
        assert taken is not None
        made.driftward.handlers[taken.kind](taken)
        queue.finish(taken)
    with life.database.reading() as session:
        assert (counts(session), session.scalar(select(func.count(EmbeddingRow.id)))) == before
        assert ledger.verify(session).valid
    assert (life.alias(), made.run(life.repair).state) == (alias, state)
