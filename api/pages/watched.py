"""The watch over a promoted version's first weeks, as the model's page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.states import State, watch_state
from retrain.tables import WatchRow
from retrain.watching.showing import of_run, sentences, then, told, watches_of
from retrain.watching.states import WatchState


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLine:
    """One measure in use, and the lowest limit that was promised of it."""

    name: str
    seen: str
    interval: str
    limit: str
    patients: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPanel:
    """One watch."""

    version: str
    where: str
    state: State
    span: str
    line: str
    #: when the next look is due, and what a failure would bring; None at the end
    next_look: str | None
    lines: tuple[MeasureLine, ...]
    warnings: tuple[str, ...]
    #: the command that is offered, if it failed
    offered: str | None


def watch_panels(session: Session, model: str) -> tuple[WatchPanel, ...]:
    """Return the watches over a model's promoted versions, newest first."""
    return tuple(_panel(session, row) for row in watches_of(session, model))


def watch_panels_of_run(session: Session, run: int) -> tuple[WatchPanel, ...]:
    """Return the watches over what a run made, newest first."""
    return tuple(_panel(session, row) for row in reversed(of_run(session, run)))


def _panel(session: Session, row: WatchRow) -> WatchPanel:
    document = told(session, row)
    look = document["newest_look"]
    return WatchPanel(
        version=document["version"],
        where=row.deployment,
        state=watch_state(row.state),
        span=f"{wording.moment(row.since)} to {wording.moment(row.ended_at or row.until)}",
        line=_line(document, row),
        next_look=_next(document),
        lines=tuple(_measure(one) for one in look["measures"]) if look else (),
        warnings=tuple(one["sentence"] for one in look["warnings"]) if look else (),
        offered=document["offered"],
    )


def _line(document: dict[str, Any], row: WatchRow) -> str:
    look = document["newest_look"]
    if row.state == WatchState.CUT_SHORT:
        return row.note
    if look is None:
        (line,) = sentences(document)
        return line
    return (
        f"day {look['day']}, {wording.counted(document['looks'], 'look')}, "
        f"{wording.counted(look['labelled'], 'patient')} with a label that counts; at most "
        f"{wording.percent(document['error_rate'])} false failures"
    )


def _next(document: dict[str, Any]) -> str | None:
    if document["next_look"] is None:
        return None
    due = wording.moment(datetime.fromisoformat(document["next_look"]))
    return f"next look {due}: {then(document)}"


def _measure(one: dict[str, Any]) -> MeasureLine:
    seen = one["estimate"] is not None
    verdict = "below" if one["failed"] else "no fall shown"
    return MeasureLine(
        name=one["measure"],
        seen=f"{one['estimate']:.1%}" if seen else "–",
        interval=f"{one['low']:.1%} to {one['high']:.1%}" if seen else "–",
        limit="–" if one["limit"] is None else f"{one['limit']:.1%}",
        patients=f"{one['patients']} of {one['needed']} needed"
        if one["patients"] < one["needed"]
        else str(one["patients"]),
        verdict=verdict if one["evaluable"] else "not evaluable",
    )
