"""Full reviews: a person finds a champion fit, and its changes are counted anew from there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import ledger, serving
from registry.errors import BadInputError
from registry.identities import Identity, Role
from registry.versions import VersionRow, ref
from retrain import plans
from retrain.tables import ReviewRow


def review(
    session: Session, model: str, *, reason: str, by: Identity, at: datetime
) -> ReviewRow:
    """Record that a person reviewed a model as a whole, and found its champion fit.

    Raises
    ------
    NotPermittedError
        If the identity is no approver.
    NotFoundError
        If the model has no champion.
    BadInputError
        If no reason is given.
    """
    by.require(Role.APPROVER, f"review {model}")
    if not reason.strip():
        raise BadInputError(
            "a review needs its reason: what was looked at, and where it stands"
        )
    champion = serving.require_champion(session, model)
    plan = plans.in_force(session, model)
    row = ReviewRow(
        model=model,
        version=champion.id,
        plan=plan.id if plan else None,
        by=by.name,
        reason=reason,
        reviewed_at=at,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="model.reviewed",
        subject=model,
        facts={
            "version": str(ref(champion)),
            "plan": plan.digest if plan else None,
            "reason": reason,
        },
        seals=[row],
    )
    return row


def latest(session: Session, model: str) -> ReviewRow | None:
    """Return the newest review of a model, or None."""
    return session.scalars(
        select(ReviewRow).where(ReviewRow.model == model).order_by(ReviewRow.id.desc()).limit(1)
    ).first()


def reviewed_version(session: Session, model: str) -> VersionRow | None:
    """Return the version from which cumulative change is measured.

    The champion of the newest review; before the first one, the model's first champion.
    None where there was no champion yet.
    """
    newest = latest(session, model)
    if newest is not None:
        return session.get_one(VersionRow, newest.version)
    history = serving.reigns(session, model)
    return session.get_one(VersionRow, history[0].version) if history else None
