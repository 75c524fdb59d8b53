"""What people are taken to do in a replay: at once what the plan lets them, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from registry.access.signing_in import Proof
from registry.errors import PlanRefusedError, StaleChampionError
from registry.identities import Identity, Role
from retrain import approvals, plans, runs
from retrain.approvals import Meaning
from retrain.promotion import promote
from retrain.states import RunState
from retrain.tables import RunRow

_OPERATOR = Identity(name="operator", roles=frozenset({Role.OPERATOR}))


def let_people_act(session: Session, run: RunRow, *, at: datetime) -> str | None:
    """End a run's shadow, sign it and promote its candidate, as far as all this is due.

    Returns why a candidate that passed its gates is not promoted now; None where it was, or
    where none is ready.
    """
    rules = plans.by_id(session, run.plan).plan
    if run.state == RunState.SHADOW and (
        at >= run.changed_at + timedelta(days=rules.shadow_days)
    ):
        note = f"shadowed for {rules.shadow_days:g} days"
        _advance(session, run, RunState.AWAITING_APPROVAL, note, at)
    if run.state != RunState.AWAITING_APPROVAL:
        return None
    left = approvals.left_to_people(session, run)
    if left:
        return f"whoever signs would have to decide: {', '.join(left)}"
    _sign(session, run, rules.approval.people, rules.approval.role, at)
    try:
        promote(session, run, by=_OPERATOR, at=at)
    except PlanRefusedError as error:
        return str(error)
    except StaleChampionError as error:
        # Its gates compared with a champion that another run has replaced since.
        _advance(session, run, RunState.SUPERSEDED, str(error), at)
        return str(error)
    return None


def _sign(session: Session, run: RunRow, people: int, role: Role, at: datetime) -> None:
    given = people - approvals.approval_of(session, run, at=at).missing
    for number in range(given, people):
        approvals.sign(
            session,
            run,
            Meaning.APPROVED,
            by=Identity(name=f"approver {number + 1}", roles=frozenset({role})),
            reason="taken to be given at once",
            at=at,
            proof=Proof.PASSWORD,
        )


def _advance(session: Session, run: RunRow, state: RunState, note: str, at: datetime) -> None:
    runs.advance(session, run, state, note=note, actor=_OPERATOR.name, at=at)
