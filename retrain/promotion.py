"""Promotion and rollback: the champion moves in one transaction, or not at all."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import episodes, references
from monitor.episodes import EpisodeState
from monitor.monitors import all_monitors
from monitor.tables import EpisodeRow
from registry import ledger, serving
from registry.errors import (
    ConflictError,
    GateRefusedError,
    NotFoundError,
    PlanRefusedError,
)
from registry.identities import Identity, Role
from registry.jobs import enqueue
from registry.serving import Withholding
from registry.versions import VersionRef, VersionRow, find, ref
from retrain import allowance, approvals, plans, runs
from retrain.change_plan import Authority
from retrain.gates.outcome import Outcome
from retrain.states import RunState
from retrain.tables import RunRow
from retrain.watching import beginning as watching

#: Kinds of job that follow a promotion.
DELIVER_OUTBOX = "deliver outbox"
RENEW_REFERENCE = "renew reference"


def promote(session: Session, run: RunRow, *, by: Identity, at: datetime) -> VersionRow:
    """Make a run's candidate the champion.

    In one transaction: the champion by compare-and-set, the run's end, the
    restriction that the episode brought, the episode's acceptance, and the
    jobs that bring MLflow and the references in line.

    Raises
    ------
    PlanRefusedError
        If the plan in force is another, gives no authority, its limits or stop rules forbid
        it, or approvals lack.
    GateRefusedError
        If a gate did not pass.
    StaleChampionError
        If the champion is no longer the one that the gates compared with.
    """
    by.require(Role.OPERATOR, "promote a version")
    _require_plan_in_force(session, run)
    _require_allowance(session, run, at=at)
    _require_gates_passed(session, run)
    approvals.require_approved(session, run, at=at)
    candidate = session.get_one(VersionRow, run.candidate)
    serving.move_champion(
        session,
        candidate,
        expected=run.champion_before,
        reason=f"run {run.id}",
        kind="champion.promoted",
        actor=by.name,
        at=at,
    )
    runs.advance(
        session,
        run,
        RunState.PROMOTED,
        note=f"{ref(candidate)} is the champion",
        actor=by.name,
        at=at,
        facts={"version": str(ref(candidate))},
    )
    if run.episode is not None:
        _accept_episode(session, run, candidate, by=by, at=at)
    watching.begin(session, run, candidate, deployment=serving.EVERYWHERE, at=at)
    ask_for_delivery(session)
    enqueue(
        session,
        kind=RENEW_REFERENCE,
        key=f"{RENEW_REFERENCE}/run {run.id}",
        payload={"run": run.id},
    )
    return candidate


def promote_version(
    session: Session, name: VersionRef, *, by: Identity, at: datetime
) -> VersionRow:
    """Promote a version by the run that made it.

    Raises
    ------
    PlanRefusedError
        If no run awaits approval with it; an imported version needs a run, too.
    """
    version = find(session, name)
    run = session.scalars(select(RunRow).where(RunRow.candidate == version.id)).first()
    if run is None:
        raise PlanRefusedError(
            f"{name} is no run's candidate, so it passed no gates: it cannot be promoted"
        )
    return promote(session, run, by=by, at=at)


def roll_back(
    session: Session, model: str, *, reason: str, by: Identity, at: datetime
) -> tuple[VersionRow, VersionRow]:
    """Point the champion back at the version before it; returns (replaced, restored).

    Raises
    ------
    NotFoundError
        If there was none before.
    """
    by.require(Role.OPERATOR, "roll back a champion")
    current = serving.require_champion(session, model)
    history = serving.reigns(session, model)
    served = [reign.version for reign in history]
    # The one before its promotion, not one that was itself rolled back since.
    place = served.index(current.id)
    if place == 0:
        raise NotFoundError(f"model {model} had no champion before {ref(current)}: suspend it")
    restored = session.get_one(VersionRow, served[place - 1])
    serving.move_champion(
        session,
        restored,
        expected=current.id,
        reason=reason,
        kind="champion.rolled_back",
        actor=by.name,
        at=at,
    )
    watching.end_superseded(session, model, at=at)
    _as_before(session, current, by=by, at=at)
    why = f"{ref(current)} was rolled back: {reason}"
    _reinstate(session, restored, reason=why, by=by, at=at)
    ask_for_delivery(session)
    return current, restored


def undo_rollback(
    session: Session, model: str, *, reason: str, by: Identity, at: datetime
) -> tuple[VersionRow, VersionRow]:
    """Undo a rollback that was a mistake; returns (replaced, restored).

    It must be the newest move of the champion. What it had put back is lifted again, and the
    version that serves again is watched anew, by the plan of the run that made it. The rollback
    stays in the record, and counts for the plan's stop rule.

    Raises
    ------
    ConflictError
        If the champion came by another way, or was rolled back because its watch failed.
    RecalledError
        If the version was recalled meanwhile.
    """
    by.require(Role.OPERATOR, "undo a rollback")
    current = serving.require_champion(session, model)
    moves = ledger.entries(session, subject=str(ref(current)), newest_first=True)
    newest = next((entry for entry in moves if entry.kind.startswith("champion.")), None)
    served = serving.reigns(session, model)
    if newest is None or newest.kind != "champion.rolled_back" or len(served) < 2:
        raise ConflictError(
            f"the champion {ref(current)} did not come by a rollback: there is none to undo"
        )
    restored = session.get_one(VersionRow, served[-2].version)
    if watching.failed(session, restored):
        raise ConflictError(
            f"{ref(restored)} failed its watch, so its rollback was no mistake: start a new run"
        )
    serving.move_champion(
        session,
        restored,
        expected=current.id,
        reason=reason,
        kind="champion.rollback_undone",
        actor=by.name,
        at=at,
    )
    _in_use_again(session, restored, by=by, at=at)
    _reinstate(session, restored, reason=f"its rollback was undone: {reason}", by=by, at=at)
    run = session.scalars(select(RunRow).where(RunRow.candidate == restored.id)).first()
    if run is not None:
        watching.begin(session, run, restored, deployment=serving.EVERYWHERE, at=at)
    ask_for_delivery(session)
    return current, restored


def ask_for_delivery(session: Session) -> None:
    """Queue the job that tells MLflow what it has yet to be told.

    It is one job, whoever asks: two at once could move an alias back and forth.
    """
    enqueue(session, kind=DELIVER_OUTBOX, key=DELIVER_OUTBOX, payload={}, again=True)


def _as_before(session: Session, replaced: VersionRow, *, by: Identity, at: datetime) -> None:
    """Put back what a rolled-back version had lifted, and end what its failure had brought."""
    reason = f"{ref(replaced)}, promoted for it, was rolled back"
    for row in serving.lifted_for(session, replaced):
        serving.withhold(
            session,
            model=replaced.model,
            kind=Withholding(row.kind),
            subgroup=row.subgroup,
            reason=reason,
            actor=by.name,
            at=at,
        )
    for row in serving.brought_by(session, replaced):
        reason = f"{ref(replaced)}, which failed, was rolled back"
        serving.lift(session, row, reason=reason, actor=by.name, at=at)


def _in_use_again(session: Session, version: VersionRow, *, by: Identity, at: datetime) -> None:
    """Lift what a rollback had put back."""
    lifted = {(row.kind, row.subgroup) for row in serving.lifted_for(session, version)}
    for row in serving.restrictions(session, version.model):
        if row.because_of is None and (row.kind, row.subgroup) in lifted:
            serving.lift(
                session,
                row,
                reason=f"the rollback of {ref(version)} was undone",
                actor=by.name,
                at=at,
                lifted_for=version,
            )


def _reinstate(
    session: Session, version: VersionRow, *, reason: str, by: Identity, at: datetime
) -> None:
    """Give every monitor of the model the version's own reference back."""
    for monitor in all_monitors(session):
        if monitor.specification.model == version.model:
            references.reinstate(
                session, monitor.name, version, reason=reason, actor=by.name, at=at
            )


def _require_gates_passed(session: Session, run: RunRow) -> None:
    outcomes = {
        gate.name: Outcome(gate.outcome) for gate in runs.gate_outcomes(session, run.id)
    }
    if not outcomes:
        raise GateRefusedError(
            f"run {run.id} cannot be promoted: none of its gates was evaluated"
        )
    rules = plans.by_id(session, run.plan).plan.gates
    refused = [name for name, outcome in outcomes.items() if rules.refuses(name, outcome)]
    if run.champion_before is not None:
        refused += [
            f"{gate.value} (not evaluated)" for gate in rules.required if gate not in outcomes
        ]
    if refused:
        names = ", ".join(refused)
        raise GateRefusedError(f"run {run.id} cannot be promoted: gates not passed: {names}")


def _require_plan_in_force(session: Session, run: RunRow) -> None:
    plan = plans.require_plan(session, run.model)
    if plan.id != run.plan:
        raise PlanRefusedError(
            f"run {run.id} was made under plan {plans.by_id(session, run.plan).number}, and plan "
            f"{plan.number} is in force now: start a new run"
        )
    if plan.plan.authority is Authority.NONE:
        raise PlanRefusedError(f"plan {plan.number} gives no authority to change {run.model}")


def _require_allowance(session: Session, run: RunRow, *, at: datetime) -> None:
    """Refuse a change that the plan's limits or stop rules forbid; a first version is none."""
    if run.champion_before is None:
        return
    forbidden = allowance.why_no_promotion(
        session, plans.require_plan(session, run.model), at=at
    )
    if forbidden is not None:
        raise PlanRefusedError(f"run {run.id} cannot be promoted: {forbidden}")


def _accept_episode(
    session: Session, run: RunRow, candidate: VersionRow, *, by: Identity, at: datetime
) -> None:
    episode = session.get_one(EpisodeRow, run.episode)
    reason = f"{ref(candidate)} was promoted for it by run {run.id}"
    for restriction in serving.restrictions(session, run.model):
        # A person's suspension, and a watch's, stays until a person lifts it.
        if restriction.because_of is None and (restriction.kind, restriction.subgroup) == (
            Withholding.RESTRICT,
            episode.subgroup,
        ):
            serving.lift(
                session, restriction, reason=reason, actor=by.name, at=at, lifted_for=candidate
            )
    if episode.state == EpisodeState.OPEN:
        episodes.end(
            session, episode, EpisodeState.ACCEPTED, reason=reason, actor=by.name, at=at
        )
