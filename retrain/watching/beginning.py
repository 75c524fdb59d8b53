"""Where a watch begins and ends: with the champion's own moves, in their transaction."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import ledger, serving
from registry.canonical import Json
from registry.identities import SYSTEM
from registry.versions import VersionRow, ref
from retrain import plans
from retrain.tables import RunRow, WatchLookRow, WatchRow
from retrain.watching.states import WatchState


def begin(
    session: Session, run: RunRow, version: VersionRow, *, deployment: str, at: datetime
) -> WatchRow | None:
    """Begin to watch a version that was promoted in a deployment.

    One that is watched there already goes on being watched. Returns None where the plan of its
    run asks for no watch.
    """
    end_superseded(session, version.model, at=at)
    rules = plans.by_id(session, run.plan).plan.watch
    if rules is None:
        return None
    for row in going_on(session, version.model):
        if (row.deployment, row.version) == (deployment, version.id):
            return row
    row = WatchRow(
        model=version.model,
        deployment=deployment,
        version=version.id,
        run=run.id,
        plan=run.plan,
        state=WatchState.WATCHING.value,
        since=at,
        until=at + timedelta(days=rules.days),
        ended_at=None,
        note="",
    )
    session.add(row)
    session.flush()
    record(
        session,
        row,
        "watch.begun",
        {"days": rules.days, "error_rate": rules.error_rate, "plan": run.plan},
        at=at,
    )
    return row


def end_superseded(session: Session, model: str, *, at: datetime) -> None:
    """End the watches of versions that serve no longer where they were watched.

    The version that a rollback restores is not watched anew: no gate promised anything of it
    that day, what it did before is on record, and the monitor goes on looking at it.
    """
    for row in going_on(session, model):
        now = serving.champion(session, model, row.deployment)
        if now is None or now.id != row.version:
            note = f"{ref(now)} serves" if now is not None else "none serves any longer"
            end(session, row, WatchState.CUT_SHORT, note=note, at=at)


def end(
    session: Session,
    row: WatchRow,
    state: WatchState,
    *,
    note: str,
    at: datetime,
    look: WatchLookRow | None = None,
) -> None:
    """End a watch; the look that ended it is sealed with it."""
    row.state, row.note, row.ended_at = state.value, note, at
    record(
        session,
        row,
        f"watch.{state.value.replace(' ', '_')}",
        {"note": note},
        at=at,
        look=look,
    )


def record(
    session: Session,
    row: WatchRow,
    kind: str,
    facts: dict[str, Json],
    *,
    at: datetime,
    look: WatchLookRow | None = None,
) -> None:
    """Enter a watch into the ledger, and a look with it."""
    session.flush()
    version = session.get_one(VersionRow, row.version)
    ledger.append(
        session,
        at=at,
        actor=SYSTEM.name,
        kind=kind,
        subject=str(ref(version)),
        facts={"watch": row.id, "deployment": row.deployment, **facts},
        seals=[row] if look is None else [row, look],
    )


def failed(session: Session, version: VersionRow) -> bool:
    """Return whether a version failed a watch anywhere."""
    query = select(WatchRow.id).where(
        WatchRow.version == version.id, WatchRow.state == WatchState.FAILED.value
    )
    return session.scalars(query.limit(1)).first() is not None


def going_on(session: Session, model: str | None = None) -> list[WatchRow]:
    """Return the watches that go on, oldest first."""
    query = select(WatchRow).where(WatchRow.state == WatchState.WATCHING.value)
    if model is not None:
        query = query.where(WatchRow.model == model)
    return list(session.scalars(query.order_by(WatchRow.id)))


def looks_of(session: Session, row: WatchRow) -> list[WatchLookRow]:
    """Return a watch's looks, oldest first."""
    return list(
        session.scalars(
            select(WatchLookRow).where(WatchLookRow.watch == row.id).order_by(WatchLookRow.day)
        )
    )
