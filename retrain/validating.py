"""The job that validates a run's candidate: both models on the locked sets, then the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.tables import DatasetRow
from registry import crash_points, ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import DriftwardError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import VersionRow, ref
from retrain import plans, run_data, runs
from retrain.gates import promises
from retrain.gates.evaluation import evaluate
from retrain.gates.first_version import first_version_aucs
from retrain.gates.integrity import (
    label_provenance,
    no_patient_on_both_sides,
    parity,
)
from retrain.gates.outcome import GateOutcome, GateReport, gravest
from retrain.gathering import Gatherer
from retrain.plans import AppliedPlan
from retrain.readers import Reader
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, LockedSetUseRow, RunRow


class KeepsMetrics(Protocol):
    """Where the figures of a candidate's gates are kept besides the database."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None: ...


class Validator:
    """Does the job `validate`: payload {run}."""

    def __init__(
        self,
        database: Database,
        reader: Reader,
        tracking: KeepsMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._reader = reader
        self._gatherer = Gatherer(database, reader)
        self._tracking = tracking
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Evaluate the plan's gates, and move the run by their verdict."""
        run_id = int(claim.payload["run"])
        with self._database.reading() as session:
            run = runs.require_run(session, run_id)
            if run.state != RunState.VALIDATING:
                return  # an earlier attempt came this far
            plan = plans.by_id(session, run.plan)
            candidate = session.get_one(VersionRow, run.candidate)
            before = _judged_before(session, run)
        crash_points.reach("validate: begun")
        spent = _spent_set(before, plan)
        if spent is not None:
            self._end(run_id, claim, RunState.REJECTED, spent)
            return
        try:
            if run.champion_before is None:
                outcomes = self._first_version(run, candidate, plan)
            else:
                outcomes = self._against_champion(run, candidate, plan, before)
        except DriftwardError as error:
            # Trying again would end alike: the run says so instead of standing still.
            self._end(run_id, claim, RunState.FAILED, str(error))
            raise
        crash_points.reach("validate: gates evaluated")
        self._conclude(run_id, claim, candidate, plan, outcomes, before)

    def _first_version(
        self, run: RunRow, candidate: VersionRow, plan: AppliedPlan
    ) -> Sequence[GateOutcome]:
        limits = plan.plan.gates.limits
        findings = self._gatherer.first_version(run, candidate)
        reached = first_version_aucs(findings, floor=plan.plan.gates.first_version_auc)
        held_to = [
            promise
            for name, results in findings.items()
            for promise in promises.of_first_version(results, limits, finding=name)
        ]
        locked = self._gatherer.locked(run, Purpose.LOCKED_REFERENCE)
        return (
            replace(reached, figures={**reached.figures, **promises.recorded(held_to)}),
            parity(self._reader.parity(candidate), limits=limits),
            no_patient_on_both_sides(
                self._gatherer.trained_on(candidate), locked=frozenset(locked.patients)
            ),
            label_provenance(locked.influence),
        )

    def _against_champion(
        self,
        run: RunRow,
        candidate: VersionRow,
        plan: AppliedPlan,
        before: Mapping[Purpose, int],
    ) -> Sequence[GateOutcome]:
        rules = plan.plan.gates
        evidence = self._gatherer.against_champion(run, candidate, rules, before)
        report: GateReport = evaluate(rules.required, evidence, rules.limits)
        return report.outcomes

    def _end(self, run_id: int, claim: Claim, state: RunState, reason: str) -> None:
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, run_id)
            runs.advance(
                session,
                run,
                state,
                note=reason,
                actor=SYSTEM.name,
                at=self._clock.now(),
            )

    def _conclude(
        self,
        run_id: int,
        claim: Claim,
        candidate: VersionRow,
        plan: AppliedPlan,
        outcomes: Sequence[GateOutcome],
        before: Mapping[Purpose, int],
    ) -> None:
        now = self._clock.now()
        verdict = gravest([outcome.outcome for outcome in outcomes])
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, run_id)
            rows = [
                GateOutcomeRow(
                    run=run.id,
                    name=outcome.name,
                    outcome=outcome.outcome.value,
                    sentence=outcome.sentence,
                    detail=outcome.as_record(),
                    decided_at=now,
                )
                for outcome in outcomes
            ]
            uses = [
                LockedSetUseRow(dataset=dataset, run=run.id, used_at=now)
                for purpose, dataset in run.datasets.items()
                if purpose in {Purpose.LOCKED_REFERENCE, Purpose.LOCKED_DRIFTED}
            ]
            session.add_all([*rows, *uses])
            session.flush()
            ledger.append(
                session,
                at=now,
                actor=SYSTEM.name,
                kind="gates.evaluated",
                subject=f"run {run.id}",
                facts={
                    "candidate": str(ref(candidate)),
                    "verdict": verdict.value,
                    "outcomes": {row.name: row.outcome for row in rows},
                    "plan": plan.digest,
                    "judged_before": {
                        purpose.value: count for purpose, count in before.items()
                    },
                },
                seals=[*rows, *uses],
            )
            rules = plan.plan.gates
            refused = [one.name for one in outcomes if rules.refuses(one.name, one.outcome)]
            left = [
                one.name for one in outcomes if rules.leaves_to_people(one.name, one.outcome)
            ]
            if refused:
                state, note = RunState.REJECTED, f"gates not passed: {', '.join(refused)}"
            # A first version has no champion to read beside.
            elif plan.plan.shadow_days > 0 and run.champion_before is not None:
                state = RunState.SHADOW
                note = f"{_passed(left)}; shadow for {plan.plan.shadow_days:g} days"
            else:
                state, note = RunState.AWAITING_APPROVAL, _passed(left)
            runs.advance(session, run, state, note=note, actor=SYSTEM.name, at=now)
            session.flush()
            crash_points.reach("validate: before the commit")
        crash_points.reach("validate: committed")
        self._tracking.log_metrics(
            candidate.mlflow_run,
            {
                f"gate.{outcome.name}": outcome.estimate
                for outcome in outcomes
                if outcome.estimate is not None
            },
        )


def _passed(left: Sequence[str]) -> str:
    if not left:
        return "every gate passed"
    return f"no gate refuses; not evaluable, and left to who signs: {', '.join(left)}"


def _judged_before(session: Session, run: RunRow) -> dict[Purpose, int]:
    """Return how many candidates each of a run's locked sets has judged."""
    counts: dict[Purpose, int] = {}
    for purpose in (Purpose.LOCKED_REFERENCE, Purpose.LOCKED_DRIFTED):
        dataset = run_data.locked_dataset(session, run, purpose)
        if dataset is not None:
            # The same scans frozen again are the same set.
            counts[purpose] = (
                session.scalar(
                    select(func.count(LockedSetUseRow.id))
                    .join(DatasetRow, DatasetRow.id == LockedSetUseRow.dataset)
                    .where(DatasetRow.digest == dataset.digest)
                )
                or 0
            )
    return counts


def _spent_set(judged: Mapping[Purpose, int], plan: AppliedPlan) -> str | None:
    """Return why a locked set may judge no more candidates, or None while each still may."""
    for purpose, used in judged.items():
        if used >= plan.plan.gates.locked_set_uses:
            return (
                f"the {purpose.value} set has judged {used} candidates, as many as plan "
                f"{plan.number} allows: collect a new one"
            )
    return None
