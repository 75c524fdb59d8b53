"""Decisions: from an episode's cause and impact, by the plan, to what is done about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.episodes.causes import Cause
from monitor.episodes.episodes import Impact
from monitor.performance.falls import MARGINS
from monitor.tables import EpisodeRow
from registry import ledger
from retrain.change_plan import Authority, Autonomy, Strategy, labels_train
from retrain.plans import AppliedPlan
from retrain.tables import DecisionRow


class Action(StrEnum):
    """What can be done about an episode."""

    LOG = "log"
    TICKET = "ticket"
    RESTRICT = "restrict"
    LABEL_REQUEST = "label request"
    RUN = "run"
    #: take a restriction back; always a person's to do
    LIFT = "lift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do, and why."""

    action: Action
    reason: str
    #: that may serve, the least invasive first
    strategies: tuple[Strategy, ...] = ()


def serving(
    permitted: Sequence[Strategy], measured: Mapping[str, Any] | None
) -> tuple[Strategy, ...]:
    """Return which of the permitted strategies can repair what labels have measured.

    An operating point that moved while the ranking of scans stayed needs no
    training; a ranking that was lost is not mended by recalibration. Where
    neither is clear, the run compares all of them.

    Parameters
    ----------
    measured : an episode's evidence of its impact, None where labels still lack
    """
    ordered = [one for one in Strategy if one in permitted]
    if measured is None or Strategy.RECALIBRATION not in ordered:
        return tuple(ordered)
    fell = {fall["measure"] for fall in measured["falls"]}
    by_finding = measured.get("findings", {"": measured}).values()
    kept = all(
        one["after"]["auc"][0] >= one["before"]["auc"][0] - MARGINS["AUC"] for one in by_finding
    )
    if "AUC" not in fell and kept:
        return (Strategy.RECALIBRATION,)
    training = [one for one in ordered if one is not Strategy.RECALIBRATION]
    return tuple(training if "AUC" in fell and training else ordered)


def steps_for(
    *,
    cause: Cause,
    subgroup: str | None,
    impact: Impact,
    plan: AppliedPlan | None,
    measured: Mapping[str, Any] | None = None,
    forbidden: str | None = None,
) -> Iterator[Step]:
    """Yield what the plan asks for, the least invasive first.

    A drift alone changes no model: a run is asked for only where labels have
    measured an impact, and labels are asked for until they have.

    Parameters
    ----------
    measured : the evidence of the impact, None where labels still lack
    forbidden : why the plan's limits or stop rules allow no run now
    """
    if plan is None:
        yield Step(
            action=Action.TICKET,
            reason="the model has no change plan, so it is locked: a person must look",
        )
        return
    rules = plan.plan
    if cause in rules.restrict_on and subgroup is not None and impact is not Impact.NONE_SHOWN:
        yield Step(
            action=Action.RESTRICT,
            reason=f"plan {plan.number} restricts on the cause {cause.value}: {subgroup}",
        )
    strategies = serving(rules.permitted(cause), measured)
    if not strategies or rules.authority is Authority.NONE:
        why = (
            "gives no authority to change the model"
            if rules.authority is Authority.NONE
            else f"permits no modification for the cause {cause.value}"
        )
        yield Step(action=Action.TICKET, reason=f"plan {plan.number} {why}: a person must look")
        return
    if forbidden is not None:
        yield Step(action=Action.TICKET, reason=forbidden)
        return
    if impact is Impact.MEASURED:
        names = " or ".join(strategy.value for strategy in strategies)
        yield Step(
            action=Action.RUN,
            strategies=strategies,
            reason=f"labels measured an impact; plan {plan.number} permits {names} "
            f"for the cause {cause.value}",
        )
        return
    needed = rules.labels.needed(labels_train=labels_train(strategies))
    yield Step(
        action=Action.LABEL_REQUEST,
        strategies=strategies,
        reason=f"impact is {impact.value}: plan {plan.number} needs {needed} labelled scans of the "
        "shift to measure it",
    )


def decide(
    session: Session,
    episode: EpisodeRow,
    plan: AppliedPlan | None,
    *,
    forbidden: str | None = None,
    actor: str,
    at: datetime,
) -> list[tuple[Step, DecisionRow]]:
    """Record the steps that are new for this episode under this plan, and return them.

    Whether a step is carried out or only proposed follows from the plan's
    autonomy; the caller does what is to be carried out.
    """
    known = set(
        session.scalars(
            select(DecisionRow.action).where(
                DecisionRow.episode == episode.id,
                DecisionRow.plan == (plan.id if plan else None),
            )
        )
    )
    steps = steps_for(
        cause=Cause(episode.cause),
        subgroup=episode.subgroup,
        impact=Impact(episode.impact),
        plan=plan,
        measured=episode.evidence.get("impact"),
        forbidden=forbidden,
    )
    return [
        (step, record(session, episode, plan, step, actor=actor, at=at))
        for step in steps
        if step.action.value not in known
    ]


def record(
    session: Session,
    episode: EpisodeRow,
    plan: AppliedPlan | None,
    step: Step,
    *,
    actor: str,
    at: datetime,
) -> DecisionRow:
    """Record one step about an episode."""
    row = DecisionRow(
        episode=episode.id,
        plan=plan.id if plan else None,
        action=step.action.value,
        reason=step.reason,
        carried_out=_by_itself(step.action, plan),
        decided_at=at,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="decision.made",
        subject=f"episode {episode.id}",
        facts={
            "action": row.action,
            "reason": row.reason,
            "carried_out": row.carried_out,
            "plan": plan.digest if plan else None,
        },
        seals=[row],
    )
    return row


def _by_itself(action: Action, plan: AppliedPlan | None) -> bool:
    """Return whether a step happens without a person; telling people always does."""
    if action in {Action.LOG, Action.TICKET}:
        return True
    if action is Action.LIFT:
        return False
    return plan is not None and plan.plan.autonomy is Autonomy.ACT


def of_episode(session: Session, episode: int) -> list[DecisionRow]:
    """Return an episode's decisions, oldest first."""
    return list(
        session.scalars(
            select(DecisionRow).where(DecisionRow.episode == episode).order_by(DecisionRow.id)
        )
    )
