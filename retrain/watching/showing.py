"""A model's watches, as the command line, the API, the pages and evidence tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import serving
from registry.canonical import Json, to_json
from registry.versions import VersionRow, ref
from retrain import plans
from retrain.tables import WatchRow
from retrain.watching.beginning import looks_of
from retrain.watching.states import WatchState


def watches_of(session: Session, model: str) -> list[WatchRow]:
    """Return a model's watches, newest first."""
    query = select(WatchRow).where(WatchRow.model == model).order_by(WatchRow.id.desc())
    return list(session.scalars(query))


def of_run(session: Session, run: int) -> list[WatchRow]:
    """Return the watches over what a run made, oldest first."""
    query = select(WatchRow).where(WatchRow.run == run).order_by(WatchRow.id)
    return list(session.scalars(query))


def of_champions(session: Session, model: str | None = None) -> list[WatchRow]:
    """Return the newest watch of each version that serves where it was watched."""
    query = select(WatchRow).order_by(WatchRow.id)
    if model is not None:
        query = query.where(WatchRow.model == model)
    newest: dict[tuple[str, str], WatchRow] = {}
    for row in session.scalars(query):
        newest[row.model, row.deployment] = row
    return [row for row in newest.values() if _serves(session, row)]


def told(session: Session, row: WatchRow) -> dict[str, Any]:
    """Return one watch with its newest look and what can be done about it."""
    looks = looks_of(session, row)
    rules = plans.by_id(session, row.plan).plan.watch
    newest = looks[-1] if looks else None
    return {
        "watch": row.id,
        "model": row.model,
        "deployment": row.deployment,
        "version": str(ref(session.get_one(VersionRow, row.version))),
        "run": row.run,
        "state": row.state,
        "since": to_json(row.since),
        "until": to_json(row.until),
        "ended_at": to_json(row.ended_at),
        "note": row.note,
        "error_rate": None if rules is None else rules.error_rate,
        "when_it_fails": None if rules is None else rules.when_it_fails.value,
        "looks": len(looks),
        "next_look": to_json(_next_look(row, looks[-1].day if looks else 0)),
        "newest_look": None
        if newest is None
        else {
            "day": newest.day,
            "looked_at": to_json(newest.looked_at),
            "labelled": newest.labelled,
            "measures": newest.measures,
            "warnings": newest.warnings,
        },
        "offered": offered(session, row),
    }


def _next_look(row: WatchRow, newest: int) -> datetime | None:
    """Return from when on the next look is due: when one more day is over; None at the end."""
    if row.state != WatchState.WATCHING:
        return None
    return min(row.since + timedelta(days=newest + 1), row.until)


def offered(session: Session, row: WatchRow) -> str | None:
    """Return the command that a failed watch offers, or None where there is nothing to undo."""
    if row.state != WatchState.FAILED or not _serves(session, row):
        return None
    served = [reign.version for reign in serving.served_at(session, row.model, row.deployment)]
    if served.index(row.version) == 0:
        return None
    where = "" if row.deployment == serving.EVERYWHERE else f" --site {row.deployment}"
    name = ref(session.get_one(VersionRow, row.version))
    return f"driftward rollback {row.model} --from {name}{where} --reason …"


def watched_at(session: Session, model: str, at: datetime) -> list[dict[str, Json]]:
    """Return how the watches stood at a moment, by their looks and ends until then."""
    found: list[dict[str, Json]] = []
    for row in watches_of(session, model):
        if row.since > at:
            continue
        over = row.ended_at is not None and row.ended_at <= at
        if over and row.state == WatchState.CUT_SHORT:
            continue
        looks = [look for look in looks_of(session, row) if look.looked_at <= at]
        found.append(
            {
                "version": str(ref(session.get_one(VersionRow, row.version))),
                "deployment": row.deployment,
                "since": to_json(row.since),
                "state": row.state if over else WatchState.WATCHING.value,
                "note": row.note if over else "",
                "looks": len(looks),
                "labelled": looks[-1].labelled if looks else 0,
            }
        )
    return found


def sentences(document: dict[str, Any]) -> Sequence[str]:
    """Return what the newest look of a watch says, measure by measure, then its warnings."""
    look = document["newest_look"]
    if look is None:
        return ["nothing was looked at yet: the first look comes when a day is over"]
    said = [one["sentence"] for one in look["measures"]]
    return [*said, *(f"warning: {one['sentence']}" for one in look["warnings"])]


def then(document: dict[str, Any]) -> str:
    """Return what follows if a watch fails."""
    return {
        "suspend": "a failure suspends it there",
        "alarm": "a failure alarms, and suspends nothing",
    }.get(document["when_it_fails"], "nothing follows on a failure")


def _serves(session: Session, row: WatchRow) -> bool:
    champion = serving.champion(session, row.model, row.deployment)
    return champion is not None and champion.id == row.version
