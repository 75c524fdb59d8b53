"""Promotions, signatures, plans and rollbacks in any order: only what is approved is promoted."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from monitored_history import History, found
from plan_texts import with_values
from retraining_rows import MODEL, PLAN, Retraining, advance, ledger_is_valid, person
from sqlalchemy import func, select

from monitor.references import ProfileStore
from registry import serving
from registry.database import Database
from registry.errors import ConflictError, DriftwardError, NotFoundError
from registry.ledger import LedgerEntry
from registry.serving import Reign
from retrain import approvals, plans, promotion, rolling_back, runs
from retrain.approvals import Meaning
from retrain.states import RunState, has_ended

#: Several must show passwords, which `test_signing` is about.
PEOPLE = 1
_PLAN = with_values(PLAN, people=str(PEOPLE))
_LOCKED = _PLAN.replace("authority: research", "authority: none")
_SIGNERS = ("ada", "mei", "tom")
_BY = person("operator")


@dataclass
class Expected:
    """What the machine knows of one run."""

    plan: int
    passed: bool
    champion_before: int
    candidate: int
    state: RunState = RunState.AWAITING_APPROVAL
    approved_by: set[str] = field(default_factory=set)


class PromotionLives(RuleBasedStateMachine):
    """A model whose candidates are signed, promoted, rejected and rolled back in any order."""

    #: a database with a first version and its plan, copied for each example
    template: ClassVar[Retraining]

    candidates: Bundle[int] = Bundle("candidates")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="promotion-lives-")
        path = Path(self._folder.name) / "driftward.db"
        shutil.copyfile(self.template.database.url.removeprefix("sqlite:///"), path)
        self.made = copy.copy(self.template)
        self.made.database = Database(f"sqlite:///{path}")
        self.runs: dict[int, Expected] = {}
        self.served = [self._champion()]
        self.plans = 0

    def teardown(self) -> None:
        assert ledger_is_valid(self.made.database)
        self.made.database.dispose()
        self._folder.cleanup()

    @rule(
        target=candidates,
        outcome=st.sampled_from(["passed", "passed", "failed"]),
        approved=st.booleans(),
    )
    def a_candidate_was_judged(self, outcome: str, approved: bool) -> int:
        number = self.made.run_awaiting_approval(outcomes=("passed", outcome))
        with self.made.database.reading() as session:
            run = runs.require_run(session, number)
        assert run.champion_before is not None
        assert run.candidate is not None
        self.runs[number] = Expected(
            plan=run.plan,
            passed=outcome == "passed",
            champion_before=run.champion_before,
            candidate=run.candidate,
        )
        if approved:
            for who in _SIGNERS:
                self.somebody_approves(number, who)
        return number

    @rule(number=candidates, who=st.sampled_from(_SIGNERS))
    def somebody_approves(self, number: int, who: str) -> None:
        expected = self.runs[number]
        waits = expected.state is RunState.AWAITING_APPROVAL
        may = waits and who not in expected.approved_by and self._is_in_force(expected.plan)
        assert self._goes(lambda session, run: self._sign(session, run, who), number) == may
        if may:
            expected.approved_by.add(who)

    @rule(number=candidates)
    def it_is_rejected(self, number: int) -> None:
        expected = self.runs[number]
        may = not has_ended(expected.state)
        reject = self._advance_to(RunState.REJECTED)
        assert self._goes(reject, number) == may
        if may:
            expected.state = RunState.REJECTED

    @rule(number=candidates)
    def it_is_promoted(self, number: int) -> None:
        expected = self.runs[number]
        may = (
            expected.state is RunState.AWAITING_APPROVAL
            and expected.passed
            and len(expected.approved_by) >= PEOPLE
            and expected.champion_before == self.served[-1]
            and self._permits(expected.plan)
        )
        assert self._goes(self._promote, number) == may
        if may:
            expected.state = RunState.PROMOTED
            self.served.append(expected.candidate)

    @rule(target=candidates)
    def one_goes_all_the_way(self) -> int:
        number = self.a_candidate_was_judged("passed", approved=True)
        self.it_is_promoted(number)
        return number

    @rule()
    def the_champion_is_rolled_back(self) -> None:
        first = self.served.index(self.served[-1])
        try:
            with self.made.database.transaction() as session:
                rolling_back.roll_back(
                    session,
                    MODEL,
                    reason="test",
                    by=_BY,
                    at=self.made.now,
                    seen=serving.require_champion(session, MODEL),
                )
        except NotFoundError:
            assert first == 0
        else:
            self.served.append(self.served[first - 1])

    @rule()
    def a_rollback_is_repeated_by_one_who_did_not_see_it(self) -> None:
        if len(self.served) < 2 or self.served[-1] not in self.served[:-1]:
            return
        with pytest.raises(ConflictError), self.made.database.transaction() as session:
            rolling_back.roll_back(session, MODEL, reason="test", by=_BY, at=self.made.now)

    @rule(text=st.sampled_from([None, None, None, _PLAN, _LOCKED]))
    def another_plan_may_be_applied(self, text: str | None) -> None:
        if text is not None:
            self.plans += 1
            self.made.apply_plan(f"{text}\n# number {self.plans}\n")

    @invariant()
    def the_expected_version_serves_and_alone(self) -> None:
        with self.made.database.reading() as session:
            reigning = session.scalars(select(Reign.version).where(Reign.until.is_(None)))
            assert list(reigning) == [self.served[-1]] == [self._champion()]

    @invariant()
    def each_run_is_where_it_was_brought(self) -> None:
        with self.made.database.reading() as session:
            states = {number: runs.require_run(session, number).state for number in self.runs}
        assert states == {number: known.state.value for number, known in self.runs.items()}

    def _goes(self, step: object, number: int) -> bool:
        """Take a step, and return whether it was taken; a refused one leaves no trace."""
        before = self._entries()
        try:
            with self.made.database.transaction() as session:
                step(session, runs.require_run(session, number))
        except DriftwardError:
            assert self._entries() == before
            return False
        assert self._entries() > before
        return True

    def _sign(self, session: object, run: object, who: str) -> None:
        approvals.sign(
            session,
            run,
            Meaning.APPROVED,
            by=person(who),
            reason="seen",
            at=self.made.now,
        )

    def _promote(self, session: object, run: object) -> None:
        promotion.promote(session, run, by=_BY, at=self.made.now)

    def _advance_to(self, state: RunState) -> object:
        return lambda session, run: advance(session, run, state, self.made.now)

    def _permits(self, plan: int) -> bool:
        with self.made.database.reading() as session:
            now = plans.require_plan(session, MODEL)
        return self._is_in_force(plan) and "authority: none" not in now.text

    def _is_in_force(self, plan: int) -> bool:
        with self.made.database.reading() as session:
            return plans.require_plan(session, MODEL).id == plan

    def _champion(self) -> int:
        with self.made.database.reading() as session:
            return serving.require_champion(session, MODEL).id

    def _entries(self) -> int:
        with self.made.database.reading() as session:
            return session.scalar(select(func.max(LedgerEntry.sequence))) or 0


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
    made.apply_plan(_PLAN)
    database.dispose()
    PromotionLives.template = made
    yield
    del PromotionLives.template


TestPromotionLives = PromotionLives.TestCase
TestPromotionLives.settings = settings(
    max_examples=10,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
