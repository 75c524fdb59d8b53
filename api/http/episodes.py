"""Episodes: what shifted, where, why, and what was decided."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy.orm import Session

from api.http.access import READ
from api.http.installation import Installation
from api.http.numbers import Number
from monitor.episodes import episodes
from monitor.tables import EpisodeRow
from retrain import decisions

router = APIRouter(prefix="/api/v1/episodes", tags=["episodes"])


class HeavyScan(BaseModel):
    """A scan that weighs much in the shift."""

    scan: int
    weight: float


class Decision(BaseModel):
    """What was decided, and whether it was carried out or only proposed."""

    action: str
    reason: str
    carried_out: bool
    decided_at: AwareDatetime


class Episode(BaseModel):
    """One shift, from opening to closing."""

    id: int
    monitor: str
    state: str
    opened_at: AwareDatetime
    onset: AwareDatetime
    closed_at: AwareDatetime | None
    closed_reason: str | None
    cause: str
    subgroup: str | None
    impact: str
    p_value: float
    effect: float
    evidence: dict[str, Any]
    heaviest: list[HeavyScan]
    decisions: list[Decision]


@router.get("", summary="List episodes", dependencies=[READ])
def list_episodes(
    driftward: Installation,
    monitor: Annotated[str | None, Query(description="Only this monitor's.")] = None,
    state: Annotated[str | None, Query(description="open, accepted or closed.")] = None,
) -> list[Episode]:
    """Return episodes, newest first."""
    with driftward.database.reading() as session:
        return [
            _episode(session, row)
            for row in episodes.all_episodes(session, monitor)
            if state is None or row.state == state
        ]


@router.get("/{number}", summary="Show an episode", dependencies=[READ])
def show_episode(number: Number, driftward: Installation) -> Episode:
    """Return one episode with its evidence and decisions."""
    with driftward.database.reading() as session:
        return _episode(session, episodes.require_episode(session, number))


def _episode(session: Session, row: EpisodeRow) -> Episode:
    return Episode(
        id=row.id,
        monitor=row.monitor,
        state=row.state,
        opened_at=row.opened_at,
        onset=row.onset,
        closed_at=row.closed_at,
        closed_reason=row.closed_reason,
        cause=row.cause,
        subgroup=row.subgroup,
        impact=row.impact,
        p_value=row.p_value,
        effect=row.effect,
        evidence=row.evidence,
        heaviest=[HeavyScan(**item) for item in row.heaviest],
        decisions=[
            Decision(
                action=item.action,
                reason=item.reason,
                carried_out=item.carried_out,
                decided_at=item.decided_at,
            )
            for item in decisions.of_episode(session, row.id)
        ],
    )
