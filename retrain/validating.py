"""The job that validates a run's candidate: both models on the locked sets, then the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.requests.estimating import gate_weights
from monitor.subgroups import Attribute, value_of
from monitor.tables import DatasetRow, EpisodeRow, ScanRow
from registry import crash_points, ledger
from registry.bundles.heads import Task
from registry.clock import Clock
from registry.database import Database
from registry.errors import BadInputError, ConflictError, DriftwardError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import VersionRow, ref
from retrain import label_requesting, plans, reviews, run_data, runs
from retrain.gates import promises
from retrain.gates.evaluation import Evidence, evaluate
from retrain.gates.first_version import first_version_auc
from retrain.gates.impact import MeasuredImpact, measure_impact
from retrain.gates.integrity import (
    label_provenance,
    no_patient_on_both_sides,
    parity,
)
from retrain.gates.outcome import Gate, GateOutcome, GateReport, gravest
from retrain.gates.results import AiInfluence, Floats, PairedResults, Results
from retrain.gates.spending import Uses
from retrain.plans import AppliedPlan
from retrain.readers import Reader
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, LockedSetUseRow, RunRow

IMPACT_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class _LockedSet:
    """Scans of a frozen set with what is known of them."""

    scans: Sequence[ScanRow]
    truth: list[int]
    influence: tuple[AiInfluence, ...]
    #: inverse of each scan's chance to be labelled; None where the chances are equal
    weights: Floats | None = None

    def with_finding(self, task: Task) -> npt.NDArray[np.bool_]:
        """Return of which scans the finding that a task looks for is true, [n]."""
        return np.array([value == task.present for value in self.truth], dtype=bool)

    @property
    def patients(self) -> list[str]:
        # As training data are recorded; a pseudonym is of one site.
        return [scan.person for scan in self.scans]


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
        locked = self._locked(run, Purpose.LOCKED_REFERENCE)
        task = self._task(candidate, run)
        results = Results(
            probabilities=self._reader.probabilities(candidate, locked.scans, task.name),
            truth=locked.with_finding(task),
            patients=np.array(locked.patients),
            threshold=_threshold(task),
            weights=locked.weights,
        )
        reached = first_version_auc(results, floor=plan.plan.gates.first_version_auc)
        held_to = promises.of_first_version(results, plan.plan.gates.limits)
        return (
            replace(reached, figures={**reached.figures, **promises.recorded(held_to)}),
            parity(self._reader.parity(candidate), limits=plan.plan.gates.limits),
            no_patient_on_both_sides(
                self._trained_on(candidate), locked=frozenset(locked.patients)
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
        declared = plan.plan.gates.locked_set_uses
        with self._database.reading() as session:
            champion = session.get_one(VersionRow, run.champion_before)
        locked = self._locked(run, Purpose.LOCKED_REFERENCE)
        drifted = self._locked(run, Purpose.LOCKED_DRIFTED)
        reference = self._paired(run, champion, candidate, locked)
        required = plan.plan.gates.required
        evidence = Evidence(
            drifted=self._paired(run, champion, candidate, drifted),
            reference=reference,
            impact=self._impact(run, champion, locked),
            trained_on=self._trained_on(candidate),
            reviewed=self._reviewed(run, champion, candidate, locked),
            parity=self._reader.parity(candidate),
            changed=self._changed(run, champion, candidate, locked.scans, reference)
            if Gate.ROBUSTNESS in required
            else None,
            deployment=self._reader.timed(champion, candidate, locked.scans)
            if Gate.DEPLOYMENT in required
            else None,
            drifted_uses=Uses(before=before[Purpose.LOCKED_DRIFTED], declared=declared),
            reference_uses=Uses(before=before[Purpose.LOCKED_REFERENCE], declared=declared),
        )
        report: GateReport = evaluate(required, evidence, plan.plan.gates.limits)
        return report.outcomes

    def _reviewed(
        self, run: RunRow, champion: VersionRow, candidate: VersionRow, locked: _LockedSet
    ) -> tuple[str, PairedResults] | None:
        """Read the reference by the version of the last full review, if another one serves."""
        with self._database.reading() as session:
            version = reviews.reviewed_version(session, run.model)
        if version is None or version.id == champion.id:
            return None
        return str(ref(version)), self._paired(run, version, candidate, locked)

    def _changed(
        self,
        run: RunRow,
        champion: VersionRow,
        candidate: VersionRow,
        scans: Sequence[ScanRow],
        reference: PairedResults,
    ) -> dict[str, PairedResults] | None:
        """Read the reference under small changes of the acquisition."""
        before, after = (
            self._reader.changed(version, scans, task=self._task(version, run))
            for version in (champion, candidate)
        )
        if before is None or after is None:
            return None
        return {
            name: replace(reference, champion=before[name], candidate=after[name])
            for name in before
        }

    def _paired(
        self, run: RunRow, champion: VersionRow, candidate: VersionRow, locked: _LockedSet
    ) -> PairedResults:
        before, after = self._task(champion, run), self._task(candidate, run)
        return PairedResults(
            champion=self._reader.probabilities(champion, locked.scans, before.name),
            candidate=self._reader.probabilities(candidate, locked.scans, after.name),
            champion_threshold=_threshold(before),
            candidate_threshold=_threshold(after),
            truth=locked.with_finding(after),
            patients=np.array(locked.patients),
            influence=locked.influence,
            subgroups={
                attribute.value: np.array(
                    [value_of(scan, attribute) or "" for scan in locked.scans]
                )
                for attribute in Attribute
            },
            weights=locked.weights,
        )

    def _impact(
        self, run: RunRow, champion: VersionRow, reference: _LockedSet
    ) -> MeasuredImpact:
        """Measure what the shift did to the champion, on scans outside every locked set.

        The champion never saw the scans of the shift, not even those that the
        candidate was trained on; replayed scans are no part of the shift.
        """
        task = self._task(champion, run)
        with self._database.reading() as session:
            episode = session.get_one(EpisodeRow, run.episode)
            shifted = {scan.id for scan in run_data.shifted_scans(session, episode, run.model)}
            # Of requested labels those that train cover the embeddings: they are no sample.
            measuring = (
                (Purpose.TRAINING, Purpose.SELECTION)
                if label_requesting.request_of(session, run) is None
                else (Purpose.SELECTION,)
            )
            outside = [
                scan
                for purpose in measuring
                for scan in datasets.members(session, run.datasets[purpose])
                if scan.id in shifted
            ]
            known = labels.latest(session, [scan.id for scan in outside])
            # What an AI influenced may have trained the candidate; it measures nothing.
            honest = [
                scan
                for scan in outside
                if (scan.id, task.name) not in known
                or not known[scan.id, task.name].ai_influenced
            ]
            part = self._with_truth(session, honest, task.name)
        return measure_impact(
            self._results(champion, reference, task),
            self._results(champion, part, task),
            level=IMPACT_LEVEL,
        )

    def _results(self, version: VersionRow, part: _LockedSet, task: Task) -> Results:
        return Results(
            probabilities=self._reader.probabilities(version, part.scans, task.name),
            truth=part.with_finding(task),
            patients=np.array(part.patients),
            threshold=_threshold(task),
            weights=part.weights,
        )

    def _locked(self, run: RunRow, purpose: Purpose) -> _LockedSet:
        with self._database.reading() as session:
            scans = datasets.members(session, run.datasets[purpose])
            part = self._with_truth(session, scans, run.settings["task"])
            return replace(part, weights=_weights(session, run, purpose, scans))

    def _with_truth(self, session: Session, scans: Sequence[ScanRow], task: str) -> _LockedSet:
        known = labels.latest(session, [scan.id for scan in scans])
        found = [known[scan.id, task] for scan in scans if (scan.id, task) in known]
        if len(found) < len(scans):
            raise ConflictError(
                f"{len(scans) - len(found)} of its scans have lost their label, or are disputed "
                "by now: adjudicate them (`driftward label disputed`), and start a run anew"
            )
        return _LockedSet(
            scans=scans,
            truth=[label.value for label in found],
            influence=tuple(
                AiInfluence.INFLUENCED if label.ai_influenced else AiInfluence.NONE
                for label in found
            ),
        )

    def _task(self, version: VersionRow, run: RunRow) -> Task:
        return self._reader.task(version, run.settings["task"])

    def _trained_on(self, candidate: VersionRow) -> frozenset[str]:
        """Return the patients behind the candidate and every version that it was derived from."""
        from registry import lineage

        with self._database.reading() as session:
            digests = [
                data["digest"]
                for version in (candidate, *lineage.ancestors(session, candidate))
                for data in version.card["training_data"]
                if data["digest"]
            ]
            return frozenset(datasets.patients_in(session, digests))

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


def _threshold(task: Task) -> float:
    if task.threshold is None:
        raise BadInputError(
            f"task {task.name} has no threshold: gates judge an operating point"
        )
    return task.threshold


def _weights(
    session: Session, run: RunRow, purpose: Purpose, scans: Sequence[ScanRow]
) -> Floats | None:
    """Return the inverse of each scan's chance to be drawn and read, [n].

    None, for equal chances, of a set that was split from labels that nobody requested.
    """
    request = label_requesting.request_of(session, run)
    if request is None or purpose is not Purpose.LOCKED_DRIFTED:
        return None
    return gate_weights(session, request, scans)


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
