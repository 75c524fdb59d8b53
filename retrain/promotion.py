"""Promotion and rollback: the champion moves in one transaction, or not at all."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.episodes import episodes
from monitor.episodes.episodes import EpisodeState
from monitor.tables import EpisodeRow
from registry import crash_points, ledger, serving
from registry.errors import (
    GateRefusedError,
    PlanRefusedError,
)
from registry.identities import Identity, Role
from registry.jobs import enqueue
from registry.versions import VersionRef, VersionRow, find, ref
from retrain import allowance, approvals, plans, runs, staging
from retrain.change_plan import Authority
from retrain.gates.outcome import Outcome
from retrain.staging import Stage
from retrain.states import RunState
from retrain.tables import RunRow
from retrain.watching import beginning as watching

#: Kinds of job that follow a promotion.
DELIVER_OUTBOX = "deliver outbox"
RENEW_REFERENCE = "renew reference"


def promote(session: Session, run: RunRow, *, by: Identity, at: datetime) -> VersionRow:
    """Make a run's candidate the champion: everywhere, or at the sites of its next stage.

    In one transaction: the champions by compare-and-set, the restriction that the episode brought
    where they read it, and the jobs that bring MLflow in line; once they are champion everywhere,
    the run's end, the episode's acceptance, and the job that renews the references, too.

    Raises
    ------
    PlanRefusedError
        If the plan in force is another, gives no authority, its limits or stop rules forbid
        it, approvals lack, another promotion is under way, or the next stage may not be entered.
    GateRefusedError
        If a gate did not pass.
    StaleChampionError
        If the champion is no longer the one that the gates compared with.
    """
    by.require(Role.OPERATOR, "promote a version")
    if run.state == RunState.PROMOTING:
        _require_next_stage(session, run, at=at)
        kind = "champion.advanced"
    else:
        _require_plan_in_force(session, run)
        _require_no_other(session, run)
        _require_allowance(session, run, at=at)
        _require_gates_passed(session, run)
        approvals.require_approved(session, run, at=at)
        kind = "champion.promoted"
    candidate = session.get_one(VersionRow, run.candidate)
    ahead = [stage for stage in staging.stages_of(session, run) if stage.since is None]
    # Of a run that came everywhere nothing is ahead: its state refuses it.
    stage = ahead[0] if ahead else Stage(sites=(), since=None)
    serving.move_champions(
        session,
        candidate,
        expected=_expected(session, run, stage),
        reason=f"run {run.id}",
        kind=kind,
        actor=by.name,
        at=at,
    )
    ask_for_delivery(session)
    _lift_restriction(session, run, candidate, stage, by=by, at=at)
    for place in stage.sites or (serving.EVERYWHERE,):
        watching.begin(session, run, candidate, deployment=place, at=at)
    if stage.sites:
        _say_stage(session, run, candidate, by=by, at=at)
    else:
        _finish(session, run, candidate, by=by, at=at)
    crash_points.reach_around_commit(session, "promote")
    return candidate


def _expected(session: Session, run: RunRow, stage: Stage) -> dict[str, int | None]:
    """Return where the champion is to move, with what is seen serving there now.

    Everywhere includes the sites that have a champion of their own. What the gates compared with
    must serve everywhere else, whatever the stage.
    """
    places = serving.places(session, run.model)
    seen = places.everywhere.version if places.everywhere else None
    if seen != run.champion_before:
        raise serving.moved_meanwhile(
            session, run.model, serving.EVERYWHERE, seen=run.champion_before, now=seen
        )
    if not stage.sites:
        others = {
            site: place.version
            for site, place in places.sites.items()
            if place.version != run.candidate
        }
        return {serving.EVERYWHERE: seen, **others}
    at_sites = {site: places.at(site) for site in stage.sites}
    return {site: place.version if place else None for site, place in at_sites.items()}


def _say_stage(
    session: Session, run: RunRow, candidate: VersionRow, *, by: Identity, at: datetime
) -> None:
    if run.state != RunState.PROMOTING:
        runs.advance(
            session,
            run,
            RunState.PROMOTING,
            note="enters its first stage",
            actor=by.name,
            at=at,
            facts={"version": str(ref(candidate))},
        )
    stages = staging.stages_of(session, run)
    reached = [str(stage) for stage in stages if stage.since is not None]
    ahead = [str(stage) for stage in stages if stage.since is None]
    note = f"serves at {', '.join(reached)}; then {', then '.join(ahead)}"
    runs.annotate(session, run, note, actor=by.name, at=at)


def _finish(
    session: Session, run: RunRow, candidate: VersionRow, *, by: Identity, at: datetime
) -> None:
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
    enqueue(
        session,
        kind=RENEW_REFERENCE,
        key=f"{RENEW_REFERENCE}/run {run.id}",
        payload={"run": run.id},
    )


def promote_version(
    session: Session, name: VersionRef, *, by: Identity, at: datetime
) -> VersionRow:
    """Promote a version by the run that made it.

    Raises
    ------
    PlanRefusedError
        If no run awaits approval with it, or is on its way through stages; an imported version
        needs a run, too.
    """
    version = find(session, name)
    run = session.scalars(select(RunRow).where(RunRow.candidate == version.id)).first()
    if run is None:
        raise PlanRefusedError(
            f"{name} is no run's candidate, so it passed no gates: it cannot be promoted"
        )
    return promote(session, run, by=by, at=at)


def ask_for_delivery(session: Session) -> None:
    """Queue the job that tells MLflow what it has yet to be told.

    It is one job, whoever asks: two at once could move an alias back and forth.
    """
    enqueue(session, kind=DELIVER_OUTBOX, key=DELIVER_OUTBOX, payload={}, again=True)


def _require_gates_passed(session: Session, run: RunRow) -> None:
    rows = runs.gate_outcomes(session, run.id)
    outcomes = {gate.name: Outcome(gate.outcome) for gate in rows}
    edited = [
        gate.name
        for gate in rows
        if ledger.vouching_entry(session, gate, kind="gates.evaluated", subject=f"run {run.id}")
        is None
    ]
    if edited:
        raise GateRefusedError(
            f"run {run.id} cannot be promoted: not as the ledger sealed them are its gates "
            f"{', '.join(edited)}: `driftward audit verify`"
        )
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


def _require_no_other(session: Session, run: RunRow) -> None:
    """Refuse a promotion while another has not come everywhere, or was given up half way."""
    other = staging.under_way(session, run.model)
    if other is not None:
        raise PlanRefusedError(
            f"run {run.id} cannot be promoted: run {other.id} {other.note}: let it end, or "
            f"`driftward rollback {run.model}`"
        )


def _require_next_stage(session: Session, run: RunRow, *, at: datetime) -> None:
    found = staging.staging_of(session, run, at=at)
    if found.waits_for:
        raise PlanRefusedError(
            f"run {run.id} cannot go on to {found.next}: {'; '.join(found.waits_for)}"
        )


def _lift_restriction(
    session: Session,
    run: RunRow,
    candidate: VersionRow,
    stage: Stage,
    *,
    by: Identity,
    at: datetime,
) -> None:
    """Lift the restriction that the run's episode brought, once its scans are read anew."""
    if run.episode is None:
        return
    episode = session.get_one(EpisodeRow, run.episode)
    if stage.sites and not staging.lies_in(episode.subgroup, stage.sites):
        return
    for restriction in serving.restricted(session, run.model, episode.subgroup):
        serving.lift(
            session,
            restriction,
            reason=f"{ref(candidate)} was promoted for it by run {run.id}",
            actor=by.name,
            at=at,
            lifted_for=candidate,
        )


def _accept_episode(
    session: Session, run: RunRow, candidate: VersionRow, *, by: Identity, at: datetime
) -> None:
    episode = session.get_one(EpisodeRow, run.episode)
    reason = f"{ref(candidate)} was promoted for it by run {run.id}"
    if episode.state == EpisodeState.OPEN:
        episodes.end(
            session, episode, EpisodeState.ACCEPTED, reason=reason, actor=by.name, at=at
        )
