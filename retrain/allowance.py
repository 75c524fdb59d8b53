"""What a plan's limits and stop rules still allow: counted from what the tables and ledger say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import recalls, serving
from registry.canonical import Json
from registry.ledger import LedgerEntry
from retrain import reviews
from retrain.plans import AppliedPlan
from retrain.states import RunState
from retrain.tables import RunRow

QUARTER = timedelta(days=90)
#: Runs that were begun: what never left the wait for labels cost nothing.
_NOT_BEGUN = (RunState.PLANNED.value, RunState.AWAITING_LABELS.value)
_UNSUCCESSFUL = (RunState.REJECTED.value, RunState.FAILED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """How much of a model's limits is used up."""

    #: begun within a quarter
    runs: int
    #: of training within a quarter
    compute_hours: float
    promoted_at: datetime | None
    #: since the last full review
    promotions: int
    unsuccessful_in_a_row: int
    rollbacks: int
    reviewed_at: datetime | None

    def to_dict(self) -> dict[str, Json]:
        return {
            "runs": self.runs,
            "compute_hours": round(self.compute_hours, 4),
            "promoted_at": self.promoted_at.isoformat() if self.promoted_at else None,
            "promotions_since_review": self.promotions,
            "unsuccessful_runs_in_a_row": self.unsuccessful_in_a_row,
            "rollbacks_since_review": self.rollbacks,
            "reviewed_at": self.reviewed_at.isoformat() if self.reviewed_at else None,
        }


def used(session: Session, model: str, *, at: datetime) -> Used:
    """Count what a model's runs, promotions and rollbacks have used up."""
    review = reviews.latest(session, model)
    begun = list(
        session.scalars(
            select(RunRow)
            .where(
                RunRow.model == model,
                RunRow.champion_before.is_not(None),
                RunRow.state.not_in(_NOT_BEGUN),
            )
            .order_by(RunRow.id.desc())
        )
    )
    recent = [run for run in begun if run.created_at > at - QUARTER]
    # The first one made the model's first version, which changed nothing.
    promotions = _moments(session, model, "champion.promoted")[1:]
    since = review.reviewed_at if review else None
    return Used(
        runs=len(recent),
        compute_hours=sum(run.settings.get("seconds", 0.0) for run in recent) / 3600,
        promoted_at=promotions[-1] if promotions else None,
        promotions=sum(since is None or moment > since for moment in promotions),
        unsuccessful_in_a_row=_unsuccessful(begun, since),
        rollbacks=sum(
            since is None or moment > since
            for moment in _moments(session, model, "champion.rolled_back")
        ),
        reviewed_at=since,
    )


def why_no_run(session: Session, plan: AppliedPlan, *, at: datetime) -> str | None:
    """Return why limits, stop rules or a recall allow no run now, or None where they do."""
    champion = serving.champion(session, plan.plan.model)
    flag = recalls.flag_of(session, champion) if champion is not None else None
    if flag is not None:
        return f"{flag.in_words()}: nothing is derived from it"
    so_far, limits = used(session, plan.plan.model, at=at), plan.plan.limits
    stopped = _stopped(so_far, plan)
    if stopped is not None:
        return stopped
    if so_far.promotions >= limits.promotions_since_review:
        return _too_far(so_far, plan)
    if so_far.runs >= limits.runs_per_quarter:
        return (
            f"plan {plan.number} allows {limits.runs_per_quarter} runs in 90 days, and "
            f"{so_far.runs} were begun: wait, or apply another plan"
        )
    if so_far.compute_hours >= limits.compute_hours_per_quarter:
        return (
            f"plan {plan.number} allows {limits.compute_hours_per_quarter:g} hours of training "
            f"in 90 days, and {so_far.compute_hours:.2f} are spent: wait, or apply another plan"
        )
    return None


def why_no_promotion(session: Session, plan: AppliedPlan, *, at: datetime) -> str | None:
    """Return why limits or stop rules allow no promotion now, or None where they do."""
    so_far, limits = used(session, plan.plan.model, at=at), plan.plan.limits
    stopped = _stopped(so_far, plan)
    if stopped is not None:
        return stopped
    if so_far.promotions >= limits.promotions_since_review:
        return _too_far(so_far, plan)
    pause = timedelta(days=limits.days_between_promotions)
    if so_far.promoted_at is not None and at < so_far.promoted_at + pause:
        return (
            f"plan {plan.number} wants {limits.days_between_promotions:g} days between "
            f"promotions, and the last was {so_far.promoted_at:%Y-%m-%d %H:%M}: promote after "
            f"{so_far.promoted_at + pause:%Y-%m-%d %H:%M}"
        )
    return None


def _stopped(so_far: Used, plan: AppliedPlan) -> str | None:
    rules = plan.plan.stop_rules
    if so_far.unsuccessful_in_a_row >= rules.unsuccessful_runs:
        what = f"{so_far.unsuccessful_in_a_row} runs in a row ended rejected or failed"
    elif so_far.rollbacks >= rules.rollbacks:
        what = f"{so_far.rollbacks} champion(s) were rolled back"
    else:
        return None
    model = plan.plan.model
    return (
        f"plan {plan.number} stops changes to {model}: {what} since its last review: look at "
        f"why, then `driftward plan review {model} --reason …`"
    )


def _too_far(so_far: Used, plan: AppliedPlan) -> str:
    model = plan.plan.model
    return (
        f"{model} was changed {so_far.promotions} time(s) since its last full review, as often "
        f"as plan {plan.number} allows: review it as a whole, then "
        f"`driftward plan review {model} --reason …`"
    )


def _unsuccessful(newest_first: list[RunRow], since: datetime | None) -> int:
    count = 0
    for run in newest_first:
        if since is not None and run.changed_at <= since:
            break
        if run.state in _UNSUCCESSFUL:
            count += 1
        elif run.state == RunState.PROMOTED:
            break
    return count


def _moments(session: Session, model: str, kind: str) -> list[datetime]:
    """Return when the ledger says that a model's champion moved in such a way."""
    return list(
        session.scalars(
            select(LedgerEntry.recorded_at)
            .where(
                LedgerEntry.kind == kind,
                func.substr(LedgerEntry.subject, 1, len(model) + 1) == f"{model}@",
            )
            .order_by(LedgerEntry.sequence)
        )
    )
