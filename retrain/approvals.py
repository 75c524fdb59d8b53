"""Approvals: signatures of people, each bound to the digest of what they saw."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import ledger
from registry.canonical import digest_of, to_json
from registry.errors import BadInputError, ConflictError, PlanRefusedError
from registry.identities import Identity
from registry.versions import VersionRow
from retrain import plans, runs
from retrain.gates.outcome import Outcome
from retrain.states import RunState
from retrain.tables import ApprovalRow, RunRow


class Meaning(StrEnum):
    """What a signature says."""

    APPROVED = "approved"
    REJECTED = "rejected"


def seen_digest(session: Session, run: RunRow) -> str:
    """Return the digest of what an approver sees: candidate, gates and plan."""
    candidate = session.get(VersionRow, run.candidate) if run.candidate else None
    return digest_of(
        {
            "run": run.id,
            "candidate": candidate.bundle_digest if candidate else None,
            "champion_before": run.champion_before,
            "plan": plans.by_id(session, run.plan).digest,
            "gates": [
                {"name": gate.name, "outcome": gate.outcome, "detail": to_json(gate.detail)}
                for gate in runs.gate_outcomes(session, run.id)
            ],
        }
    )


def sign(
    session: Session,
    run: RunRow,
    meaning: Meaning,
    *,
    by: Identity,
    reason: str,
    at: datetime,
    decided: Sequence[str] = (),
) -> ApprovalRow:
    """Sign a run that awaits approval.

    Parameters
    ----------
    decided : gates that are not evaluable, for which the person answers; an approval must
        name each

    Raises
    ------
    NotPermittedError
        If the identity lacks the role that the plan names.
    ConflictError
        If the run does not await approval, or this person has signed it already.
    BadInputError
        If an approval names other gates than those that are left to people.
    """
    by.require(plans.by_id(session, run.plan).plan.approval.role, f"sign run {run.id}")
    if run.state != RunState.AWAITING_APPROVAL:
        raise ConflictError(
            f"run {run.id} is {run.state}: only one awaiting approval is signed"
        )
    if any(row.by == by.name for row in signatures(session, run.id)):
        raise ConflictError(f"{by.name} has signed run {run.id} already: another person must")
    left = left_to_people(session, run)
    if meaning is Meaning.APPROVED and set(decided) != set(left):
        raise BadInputError(_misnamed(run, left, decided))
    row = ApprovalRow(
        run=run.id,
        by=by.name,
        meaning=meaning.value,
        reason=reason,
        seen=seen_digest(session, run),
        signed_at=at,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind=f"approval.{meaning.value}",
        subject=f"run {run.id}",
        facts={"seen": row.seen, "reason": reason, "decided": to_json(sorted(decided))},
        seals=[row],
    )
    return row


def left_to_people(session: Session, run: RunRow) -> list[str]:
    """Return the gates that are not evaluable, and that the plan leaves to who signs."""
    rules = plans.by_id(session, run.plan).plan.gates
    return [
        gate.name
        for gate in runs.gate_outcomes(session, run.id)
        if rules.leaves_to_people(gate.name, Outcome(gate.outcome))
    ]


def _misnamed(run: RunRow, left: Sequence[str], decided: Sequence[str]) -> str:
    if not left:
        return f"run {run.id} leaves no gate to people: approve it without --decide"
    named = f", not {', '.join(decided)}" if decided else ""
    options = " ".join(f"--decide {name}" for name in left)
    return (
        f"run {run.id} leaves to who signs: {', '.join(left)}{named}. Read what is known of them "
        f"(`driftward run show {run.id}`), say in the reason why they do not stand in the way, "
        f"and approve with {options}"
    )


def signatures(session: Session, run: int) -> list[ApprovalRow]:
    """Return a run's signatures, oldest first."""
    return list(
        session.scalars(
            select(ApprovalRow).where(ApprovalRow.run == run).order_by(ApprovalRow.id)
        )
    )


def missing(session: Session, run: RunRow) -> int:
    """Return how many approvals of what stands now are still missing."""
    seen = seen_digest(session, run)
    valid = {
        row.by
        for row in signatures(session, run.id)
        if row.meaning == Meaning.APPROVED and row.seen == seen
    }
    return max(0, plans.by_id(session, run.plan).plan.approval.people - len(valid))


def require_approved(session: Session, run: RunRow) -> None:
    """Refuse a promotion that lacks approvals of what stands now.

    Raises
    ------
    PlanRefusedError
    """
    lacking = missing(session, run)
    if lacking:
        raise PlanRefusedError(
            f"run {run.id} lacks {lacking} approval(s) of its candidate, gates and plan as they "
            f"stand now: `driftward approve {run.id}`"
        )
