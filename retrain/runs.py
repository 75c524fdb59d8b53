"""Runs: created once for an episode and plan, moved by the transition table alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import ledger
from registry.canonical import Json
from registry.errors import NotFoundError
from registry.versions import VersionRow, ref
from retrain.plans import AppliedPlan, Strategy
from retrain.states import RunState, has_ended, require_step
from retrain.tables import GateOutcomeRow, RunRow


def create(
    session: Session,
    *,
    model: str,
    episode: int | None,
    plan: AppliedPlan,
    strategy: Strategy,
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
        strategy=strategy.value,
        base=base.id,
        champion_before=champion.id if champion else None,
        seed=seed,
        datasets={},
        settings=settings,
        note=note,
        created_at=at,
        changed_at=at,
    )
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
    """Move a run to its next state.

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


def under_way(session: Session) -> list[RunRow]:
    """Return the runs that have not ended."""
    return [row for row in all_runs(session) if not has_ended(RunState(row.state))]


def gate_outcomes(session: Session, run: int) -> list[GateOutcomeRow]:
    """Return what the gates said, in the order in which they ran."""
    return list(
        session.scalars(
            select(GateOutcomeRow).where(GateOutcomeRow.run == run).order_by(GateOutcomeRow.id)
        )
    )
