"""The job that decides about an episode, and carries out what the plan lets happen by itself."""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.monitors import require_monitor
from monitor.requests.tables import Part
from monitor.tables import EpisodeRow
from registry import ledger, serving
from registry.clock import Clock
from registry.database import Database
from registry.errors import InsufficientDataError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.serving import Withholding
from retrain import allowance, decisions, label_requesting, plans, run_data, runs, staging
from retrain.change_plan import labels_train
from retrain.decisions import Action, Step
from retrain.label_requesting import Resolved
from retrain.label_rules import LabelSample
from retrain.plans import AppliedPlan
from retrain.states import RunState
from retrain.tables import RunRow

log = structlog.get_logger(__name__)


class Decider:
    """Does the job `decide`: payload {episode}."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Decide, restrict, ask for labels, plan the run and queue it once labels suffice."""
        with self._database.transaction() as session:
            fence(session, claim)
            # What limits still allow is counted over all runs: one decision at a time.
            ledger.wait_turn(session)
            episode = episodes.require_episode(session, int(claim.payload["episode"]))
            monitor = require_monitor(session, episode.monitor)
            model = monitor.specification.model
            plan = plans.in_force(session, model)
            if episode.state == EpisodeState.CLOSED:
                self._stand_down(session, episode, model, plan)
            if episode.state != EpisodeState.OPEN:
                return
            self._supersede_other_plans(session, episode, plan)
            made = decisions.decide(
                session,
                episode,
                plan,
                forbidden=self._why_no_run(session, episode, plan),
                actor=SYSTEM.name,
                at=self._clock.now(),
            )
            for step, row in made:
                if row.carried_out:
                    self._carry_out(session, step, episode, model, plan)
            if plan is not None:
                self._move_run(session, episode, plan, task=monitor.specification.task)

    def _why_no_run(
        self, session: Session, episode: EpisodeRow, plan: AppliedPlan | None
    ) -> str | None:
        """Return why the plan allows no run for this episode now; one under way may end."""
        if plan is None:
            return None
        run = runs.of_episode(session, episode.id, plan.id)
        if run is not None and run.state != RunState.AWAITING_LABELS:
            return None
        return allowance.why_no_run(session, plan, at=self._clock.now())

    def _stand_down(
        self, session: Session, episode: EpisodeRow, model: str, plan: AppliedPlan | None
    ) -> None:
        """End the wait for labels of a shift that is gone, and say what is still in force."""
        now = self._clock.now()
        for run in runs.under_way(session, episode=episode.id):
            if run.state == RunState.AWAITING_LABELS:
                note = f"episode {episode.id} is closed: {episode.closed_reason}"
                runs.advance(
                    session, run, RunState.SUPERSEDED, note=note, actor=SYSTEM.name, at=now
                )
        for restriction in serving.restrictions(session, model):
            if (restriction.kind, restriction.subgroup) == (
                Withholding.RESTRICT,
                episode.subgroup,
            ):
                step = Step(
                    action=Action.LIFT,
                    reason=f"the episode is closed, and {model} is still out of use for "
                    f"{episode.subgroup}: a person lifts it (`driftward lift {model} "
                    f"--subgroup '{episode.subgroup}' --reason …`)",
                )
                known = decisions.of_episode(session, episode.id)
                if Action.LIFT not in {row.action for row in known}:
                    decisions.record(session, episode, plan, step, actor=SYSTEM.name, at=now)

    def _supersede_other_plans(
        self, session: Session, episode: EpisodeRow, plan: AppliedPlan | None
    ) -> None:
        """End what was begun for this episode under a plan that is no longer in force."""
        for run in runs.under_way(session, episode=episode.id):
            # What serves at some sites stands still there until it is rolled back.
            if run.state != RunState.PROMOTING and (plan is None or run.plan != plan.id):
                runs.advance(
                    session,
                    run,
                    RunState.SUPERSEDED,
                    note="another plan is in force",
                    actor=SYSTEM.name,
                    at=self._clock.now(),
                )

    def _carry_out(
        self,
        session: Session,
        step: Step,
        episode: EpisodeRow,
        model: str,
        plan: AppliedPlan | None,
    ) -> None:
        match step.action:
            case Action.RESTRICT:
                serving.withhold(
                    session,
                    model=model,
                    kind=Withholding.RESTRICT,
                    subgroup=episode.subgroup,
                    reason=step.reason,
                    actor=SYSTEM.name,
                    at=self._clock.now(),
                )
            case Action.LABEL_REQUEST | Action.RUN:
                if plan is not None and step.strategies:
                    self._plan_run(session, step, episode, model, plan)
            case Action.LOG | Action.TICKET | Action.LIFT:
                pass  # the decision itself is what people are shown

    def _plan_run(
        self, session: Session, step: Step, episode: EpisodeRow, model: str, plan: AppliedPlan
    ) -> None:
        if not step.strategies or runs.of_episode(session, episode.id, plan.id) is not None:
            return
        if staging.under_way(session, model) is not None:
            return  # its repair serves at some sites already
        champion = serving.require_champion(session, model)
        monitor = require_monitor(session, episode.monitor)
        run = runs.create(
            session,
            model=model,
            episode=episode.id,
            plan=plan,
            strategies=step.strategies,
            base=champion,
            champion=champion,
            settings={"task": monitor.specification.task},
            seed=episode.id,
            note=step.reason,
            actor=SYSTEM.name,
            at=self._clock.now(),
        )
        needed = plan.plan.labels.needed(labels_train=labels_train(step.strategies))
        runs.advance(
            session,
            run,
            RunState.AWAITING_LABELS,
            note=f"waits for {needed} labelled scans of the shift",
            actor=SYSTEM.name,
            at=self._clock.now(),
        )

    def _move_run(
        self, session: Session, episode: EpisodeRow, plan: AppliedPlan, *, task: str
    ) -> None:
        """Queue a run whose labels measured an impact; end one whose labels showed none."""
        run = runs.of_episode(session, episode.id, plan.id)
        if run is None or run.state != RunState.AWAITING_LABELS:
            return
        now = self._clock.now()
        resolved = None
        if plan.plan.labels.sample is LabelSample.REQUESTED:
            resolved = label_requesting.resolve(
                session, run, episode, plan, task=task, actor=SYSTEM.name, at=now
            )
            if resolved is None:
                return  # the run's note says what is waited for
        judged = "impact" in episode.evidence
        if judged and episode.impact == Impact.NONE_SHOWN:
            self._end_without_impact(session, run, episode, resolved)
        elif episode.impact == Impact.MEASURED:
            self._freeze_and_queue(session, run, episode, plan, resolved, task=task)
        elif resolved is not None:
            lacks = "no impact is measured by its labels, of which too few may be of a class"
            label_requesting.say_what_lacks(
                session, run, resolved, lacks, actor=SYSTEM.name, at=now
            )

    def _freeze_and_queue(
        self,
        session: Session,
        run: RunRow,
        episode: EpisodeRow,
        plan: AppliedPlan,
        resolved: Resolved | None,
        *,
        task: str,
    ) -> None:
        """Queue a run, unless its labels or the plan's limits do not allow it."""
        now = self._clock.now()
        if allowance.why_no_run(session, plan, at=self._clock.now()) is not None:
            return  # the decision that was just made says why
        permitted = plan.plan.permitted(Cause(episode.cause))
        strategies = decisions.serving(permitted, episode.evidence.get("impact"))
        if not strategies:
            return  # the cause was corrected to one that permits nothing
        try:
            # What is half done when data lack is undone, and the run stays as it is.
            with session.begin_nested():
                runs.choose(run, strategies)
                parts = (
                    run_data.census_parts(session, run, episode, plan.plan, task=task, at=now)
                    if resolved is None
                    else label_requesting.requested_parts(
                        session, run, episode, plan.plan, resolved, task=task, at=now
                    )
                )
                run_data.freeze_repair(
                    session, run, episode, plan.plan, parts, actor=SYSTEM.name, at=now
                )
        except InsufficientDataError as error:
            log.info(
                "run still waits for labels", run=run.id, needed=error.needed, got=error.got
            )
            if resolved is not None:
                label_requesting.say_what_lacks(
                    session, run, resolved, str(error), actor=SYSTEM.name, at=now
                )
            return
        queue(session, run, actor=SYSTEM.name, clock=self._clock)

    def _end_without_impact(
        self, session: Session, run: RunRow, episode: EpisodeRow, resolved: Resolved | None
    ) -> None:
        scans = episode.evidence["impact"]["scans"]
        # Of requested labels, all that measure: what was measured may be from before the last.
        needed = (
            plans.by_id(session, run.plan).plan.labels.needed(
                labels_train=labels_train(runs.strategies_of(run))
            )
            if resolved is None
            else len(resolved.progress.labelled(Part.SELECTION))
        )
        if scans < needed:
            return
        reason = f"{scans} labelled scans of the shift show no impact"
        runs.advance(
            session,
            run,
            RunState.SUPERSEDED,
            note=f"{reason}: nothing to repair",
            actor=SYSTEM.name,
            at=self._clock.now(),
        )
        for restriction in serving.restricted(session, run.model, episode.subgroup):
            serving.lift(
                session,
                restriction,
                reason=reason,
                actor=SYSTEM.name,
                at=self._clock.now(),
            )


def queue(session: Session, run: RunRow, *, actor: str, clock: Clock) -> None:
    """Queue a run whose data are frozen."""
    runs.advance(
        session,
        run,
        RunState.QUEUED,
        note="waits for a worker",
        actor=actor,
        at=clock.now(),
        facts={"datasets": dict(run.datasets)},
    )
    runs.ask_for_training(session, run)
