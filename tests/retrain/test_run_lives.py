"""Any order of what can happen to runs, through the real functions and a real database."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from monitored_history import History, found
from retraining_rows import AT_LEAST, MODEL, PLAN, Retraining, ledger_is_valid
from sqlalchemy import func, select

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.labels import Provenance
from monitor.references import ProfileStore
from registry import ledger
from registry.database import Database
from registry.errors import TransitionError
from registry.jobs import Job, JobState
from registry.versions import VersionRow
from retrain import plans, runs
from retrain.change_plan import Strategy
from retrain.scheduling import tick
from retrain.states import TRANSITIONS, RunState, has_ended
from retrain.tables import RunRow

LOCKED = PLAN.replace("authority: research", "authority: none")
CAUSES = (Cause.ACQUISITION, Cause.TECHNICAL, Cause.PREVALENCE)


class RunLives(RuleBasedStateMachine):
    """A model whose episodes, plans, labels, jobs and people come in any order."""

    #: a database with a first version, its plan and scans of a shift, copied for each example
    template: ClassVar[Retraining]

    shifts: Bundle[int] = Bundle("shifts")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="run-lives-")
        path = Path(self._folder.name) / "driftward.db"
        shutil.copyfile(self.template.database.url.removeprefix("sqlite:///"), path)
        self.made = copy.copy(self.template)
        self.made.database = Database(f"sqlite:///{path}")
        self.made.history = copy.copy(self.template.history)
        self.made.history.database = self.made.database
        self.ended: dict[int, str] = {}
        self.plans = 0

    def teardown(self) -> None:
        assert ledger_is_valid(self.made.database)
        self.made.database.dispose()
        self._folder.cleanup()

    @rule(
        target=shifts,
        cause=st.sampled_from(CAUSES),
        impact=st.sampled_from(Impact),
    )
    def a_shift_is_found(self, cause: Cause, impact: Impact) -> int:
        return self.made.open_episode(cause=cause, impact=impact)

    @rule(shift=shifts, times=st.integers(1, 3))
    def it_is_decided_about(self, shift: int, times: int) -> None:
        for _ in range(times):
            self.made.decide(shift)
        with self.made.database.reading() as session:
            plan = plans.require_plan(session, MODEL)
            stale = [
                row.id
                for row in runs.under_way(session)
                if row.episode == shift and row.plan != plan.id
            ]
            open_still = episodes.require_episode(session, shift).state == EpisodeState.OPEN
        assert not (open_still and stale), "begun under a plan that is no longer in force"

    @rule(shift=shifts, impact=st.sampled_from([Impact.MEASURED, Impact.NONE_SHOWN]))
    def labels_say_whether_it_matters(self, shift: int, impact: Impact) -> None:
        self.made.judge(shift, impact, scans=AT_LEAST)

    @rule(shift=shifts)
    def it_is_gone(self, shift: int) -> None:
        with self.made.database.transaction() as session:
            row = episodes.require_episode(session, shift)
            if row.state == EpisodeState.OPEN:
                episodes.end(
                    session,
                    row,
                    EpisodeState.CLOSED,
                    reason="it recovered",
                    actor="test",
                    at=self.made.now,
                )

    @rule(text=st.sampled_from([PLAN, PLAN, LOCKED]))
    def another_plan_is_applied(self, text: str) -> None:
        self.plans += 1
        self.made.apply_plan(f"{text}\n# number {self.plans}\n")

    @rule(shift=shifts)
    def a_run_is_asked_for_again(self, shift: int) -> None:
        first, again = self._create(shift), self._create(shift)
        assert first == again

    @precondition(lambda self: self._runs())
    @rule(data=st.data(), wanted=st.sampled_from(list(RunState)))
    def a_step_is_asked_for(self, data: st.DataObject, wanted: RunState) -> None:
        number = data.draw(st.sampled_from(self._runs()))
        before, entries = self._state(number), self._entries()
        try:
            with self.made.database.transaction() as session:
                row = runs.require_run(session, number)
                runs.advance(session, row, wanted, note="asked", actor="test", at=self.made.now)
        except TransitionError:
            assert wanted not in TRANSITIONS[before]
            assert (self._state(number), self._entries()) == (before, entries)
        else:
            assert wanted in TRANSITIONS[before]
            assert self._state(number) == wanted
            assert self._entries() == entries + 1

    @precondition(lambda self: self._runs())
    @rule(data=st.data(), kind=st.sampled_from(["train", "validate"]))
    def its_job_is_given_up(self, data: st.DataObject, kind: str) -> None:
        number = data.draw(st.sampled_from(self._runs()))
        before = self._state(number)
        with self.made.database.transaction() as session:
            row = runs.require_run(session, number)
            ask = runs.ask_for_training if kind == "train" else runs.ask_for_validation
            ask(session, row)
            job = session.scalars(select(Job).where(Job.key == f"{kind}/run {number}")).one()
            job.state, job.error = JobState.FAILED, "its worker stopped 3 times"
        tick(self.made.database, self.made.clock)
        after = self._state(number)
        held_up = {
            "train": (RunState.QUEUED, RunState.TRAINING),
            "validate": (RunState.VALIDATING,),
        }
        expected = RunState.FAILED if before in held_up[kind] else before
        assert after == expected

    @invariant()
    def a_shift_has_one_run_under_a_plan(self) -> None:
        with self.made.database.reading() as session:
            most = session.scalar(
                select(func.count(RunRow.id))
                .where(RunRow.episode.is_not(None))
                .group_by(RunRow.episode, RunRow.plan)
                .order_by(func.count(RunRow.id).desc())
            )
        assert most in {None, 1}

    @invariant()
    def an_end_is_final(self) -> None:
        with self.made.database.reading() as session:
            now = {row.id: row.state for row in runs.all_runs(session)}
        for number, state in self.ended.items():
            assert now[number] == state
        self.ended = {
            number: state for number, state in now.items() if has_ended(RunState(state))
        }

    @invariant()
    def the_ledger_tells_each_run_s_steps_and_they_are_the_table_s(self) -> None:
        with self.made.database.reading() as session:
            states = {row.id: row.state for row in runs.all_runs(session)}
            told: dict[str, list[tuple[str | None, str]]] = {}
            for entry in ledger.entries(session):
                kind, _, state = entry.kind.partition(".")
                if kind == "run":
                    step = (entry.facts.get("before"), state.replace("_", " "))
                    told.setdefault(entry.subject, []).append(step)
        for number, state in states.items():
            (nothing, first), *steps = told[f"run {number}"]
            assert (nothing, first) == (None, RunState.PLANNED)
            at = first
            for before, after in steps:
                assert before == at
                assert RunState(after) in TRANSITIONS[RunState(before)]
                at = after
            assert at == state

    @invariant()
    def a_run_is_trained_by_one_job(self) -> None:
        with self.made.database.reading() as session:
            jobs = session.scalars(select(Job).where(Job.kind == "train")).all()
            queued = [row.id for row in runs.all_runs(session) if row.state == RunState.QUEUED]
        trained = [job.payload["run"] for job in jobs]
        assert len(trained) == len(set(trained))
        by_decision = {run for run in queued if self._was_frozen(run)}
        assert by_decision <= set(trained)

    def _create(self, shift: int) -> int:
        with self.made.database.transaction() as session:
            champion = session.get_one(VersionRow, self.made.history.champion.id)
            return runs.create(
                session,
                model=MODEL,
                episode=shift,
                plan=plans.require_plan(session, MODEL),
                strategies=(Strategy.FULL,),
                base=champion,
                champion=champion,
                settings={"task": "pneumonia"},
                seed=0,
                note="test",
                actor="test",
                at=self.made.now,
            ).id

    def _was_frozen(self, number: int) -> bool:
        with self.made.database.reading() as session:
            return bool(runs.require_run(session, number).datasets)

    def _runs(self) -> list[int]:
        with self.made.database.reading() as session:
            return [row.id for row in reversed(runs.all_runs(session)) if row.episode]

    def _state(self, number: int) -> RunState:
        with self.made.database.reading() as session:
            return RunState(runs.require_run(session, number).state)

    def _entries(self) -> int:
        with self.made.database.reading() as session:
            return session.scalar(select(func.max(ledger.LedgerEntry.sequence))) or 0


@pytest.fixture(scope="module", autouse=True)
def template(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("template")
    path = folder / "driftward.db"
    shutil.copyfile(migrated_database, path)
    database = Database(f"sqlite:///{path}")
    found(database)
    made = Retraining(History(database, ProfileStore(folder / "profiles")))
    made.apply_plan()
    made.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    database.dispose()
    RunLives.template = made
    yield
    del RunLives.template


TestRunLives = RunLives.TestCase
TestRunLives.settings = settings(
    max_examples=16,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
