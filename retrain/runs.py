"""Runs: created once for an episode and plan, moved by the transition table alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.requests.making import end_request, open_request
from monitor.requests.tables import RequestState
from registry import ledger
from registry.canonical import Json
from registry.errors import NotFoundError, TransitionError
from registry.identities import Identity, Role
from registry.jobs import Job, JobState, enqueue
from registry.ledger import LedgerEntry
from registry.versions import VersionRow, ref
from retrain.change_plan import Strategy
from retrain.plans import AppliedPlan
from retrain.states import RunState, has_ended, require_step
from retrain.tables import GateOutcomeRow, RunRow

#: The jobs that bring a run further.
TRAIN = "train"
VALIDATE = "validate"
_BROUGHT_FURTHER_BY = {
    RunState.QUEUED: TRAIN,
    RunState.TRAINING: TRAIN,
    RunState.VALIDATING: VALIDATE,
}


def create(
    session: Session,
    *,
    model: str,
    episode: int | None,
    plan: AppliedPlan,
    strategies: Sequence[Strategy],
    base: VersionRow,
    champion: VersionRow | None,
    settings: dict[str, Any],
    seed: int,
    note: str,
    actor: str,
    at: datetime,
) -> RunRow:
    """Plan a run; for an episode and plan there is at most one, which is then returned."""
    if episode is not None:
        known = of_episode(session, episode, plan.id)
        if known is not None:
            return known
    row = RunRow(
        model=model,
        episode=episode,
        plan=plan.id,
        state=RunState.PLANNED.value,
        base=base.id,
        champion_before=champion.id if champion else None,
        seed=seed,
        datasets={},
        settings=settings,
        note=note,
        created_at=at,
        changed_at=at,
    )
    choose(row, strategies)
    session.add(row)
    session.flush()
    facts: dict[str, Json] = {
        "model": model,
        "episode": episode,
        "plan": plan.digest,
        "strategy": row.strategy,
        "base": str(ref(base)),
        "seed": seed,
    }
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="run.planned",
        subject=f"run {row.id}",
        facts=facts,
        seals=[row],
    )
    return row


def choose(row: RunRow, strategies: Sequence[Strategy]) -> None:
    """Say which strategies a run may try; the one that made its candidate is known later."""
    row.strategy = strategies[0].value
    row.settings = {**row.settings, "strategies": [strategy.value for strategy in strategies]}


def strategies_of(row: RunRow) -> tuple[Strategy, ...]:
    """Return which strategies a run tries."""
    return tuple(map(Strategy, row.settings.get("strategies", [row.strategy])))


def advance(
    session: Session,
    row: RunRow,
    state: RunState,
    *,
    note: str,
    actor: str,
    at: datetime,
    facts: dict[str, Json] | None = None,
) -> None:
    """Move a run to its next state; one that ends waits for no labels any more.

    Raises
    ------
    TransitionError
        If the transition table has no such step.
    """
    require_step(RunState(row.state), state)
    before, row.state, row.note, row.changed_at = row.state, state.value, note, at
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=f"run.{state.value.replace(' ', '_')}",
        subject=f"run {row.id}",
        facts={"before": before, "note": note, **(facts or {})},
        seals=[row],
    )
    request = open_request(session, row.id) if has_ended(state) else None
    if request is not None:
        end_request(
            session,
            request,
            RequestState.CANCELLED,
            reason=f"run {row.id} is {state.value}: {note}",
            actor=actor,
            at=at,
        )


def cancel(session: Session, row: RunRow, *, reason: str, by: Identity, at: datetime) -> None:
    """End a run that has not ended.

    Raises
    ------
    NotPermittedError
        If the identity is no operator.
    TransitionError
        If it has ended, or its candidate serves at some sites.
    """
    by.require(Role.OPERATOR, "cancel a run")
    if row.state == RunState.PROMOTING:
        raise TransitionError(
            f"run {row.id} {row.note}: take it back by `driftward rollback {row.model}`"
        )
    advance(session, row, RunState.SUPERSEDED, note=reason, actor=by.name, at=at)


def annotate(
    session: Session,
    row: RunRow,
    note: str,
    *,
    actor: str,
    at: datetime,
    facts: dict[str, Json] | None = None,
) -> None:
    """Say what a run waits for; what it says already is not said again."""
    if row.note == note:
        return
    row.note, row.changed_at = note, at
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="run.waits",
        subject=f"run {row.id}",
        facts={"state": row.state, "note": note, **(facts or {})},
        seals=[row],
    )


def require_run(session: Session, run: int) -> RunRow:
    """Return a run.

    Raises
    ------
    NotFoundError
    """
    row = session.get(RunRow, run)
    if row is None:
        raise NotFoundError(f"there is no run {run}: see `driftward run list`")
    return row


def tracking_key(session: Session, row: RunRow) -> str:
    """Return what every attempt at a run is tagged with in MLflow.

    It is the digest of the ledger's entry that planned the run: several installations may share
    one MLflow, and number their runs alike.
    """
    return session.scalars(
        select(LedgerEntry.digest).where(
            LedgerEntry.subject == f"run {row.id}", LedgerEntry.kind == "run.planned"
        )
    ).one()


def end_abandoned(session: Session, *, actor: str, at: datetime) -> list[RunRow]:
    """End as failed the runs whose job was tried as often as it may be, and return them.

    A run that fails in a worker's hands says so itself; one whose workers were killed, or met
    what nobody foresaw, would stand for ever in the state in which they left it.
    """
    abandoned = session.scalars(
        select(Job).where(Job.kind.in_({TRAIN, VALIDATE}), Job.state == JobState.FAILED)
    )
    errors = {(job.kind, int(job.payload["run"])): job.error for job in abandoned}
    ended = []
    for row in under_way(session):
        kind = _BROUGHT_FURTHER_BY.get(RunState(row.state))
        if kind is None or (kind, row.id) not in errors:
            continue
        note = f"its job to {kind} was given up: {errors[kind, row.id]}"
        advance(session, row, RunState.FAILED, note=note, actor=actor, at=at)
        if kind == TRAIN:
            # For a run that has ended it does no more than end what its attempts left open.
            ask_for_training(session, row, again=True)
        ended.append(row)
    return ended


def ask_for_training(session: Session, row: RunRow, *, again: bool = False) -> None:
    """Queue the job that trains a run."""
    key = f"{TRAIN}/run {row.id}"
    enqueue(session, kind=TRAIN, key=key, payload={"run": row.id}, again=again)


def ask_for_validation(session: Session, row: RunRow) -> None:
    """Queue the job that validates a run's candidate."""
    enqueue(session, kind=VALIDATE, key=f"{VALIDATE}/run {row.id}", payload={"run": row.id})


def of_episode(session: Session, episode: int, plan: int) -> RunRow | None:
    """Return the run of an episode under a plan, if it was planned."""
    return session.scalars(
        select(RunRow).where(RunRow.episode == episode, RunRow.plan == plan)
    ).first()


def all_runs(session: Session, model: str | None = None) -> list[RunRow]:
    """Return runs, newest first."""
    query = select(RunRow).order_by(RunRow.id.desc())
    if model is not None:
        query = query.where(RunRow.model == model)
    return list(session.scalars(query))


def under_way(session: Session, *, episode: int | None = None) -> list[RunRow]:
    """Return the runs that have not ended, or those of them that are of an episode."""
    ended = [state.value for state in RunState if has_ended(state)]
    query = select(RunRow).where(RunRow.state.not_in(ended)).order_by(RunRow.id.desc())
    if episode is not None:
        query = query.where(RunRow.episode == episode)
    return list(session.scalars(query))


def gate_outcomes(session: Session, run: int) -> list[GateOutcomeRow]:
    """Return what the gates said, in the order in which they ran."""
    return list(
        session.scalars(
            select(GateOutcomeRow).where(GateOutcomeRow.run == run).order_by(GateOutcomeRow.id)
        )
    )
