"""Label requests: which scans are to be read, how far that is, and what came by itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from api.http.access import READ, READ_RECORD, KnownCaller
from api.http.installation import Installation
from api.http.numbers import Number
from monitor.episodes.episodes import require_episode
from monitor.requests import worklist
from monitor.requests.listing import describe_request
from monitor.requests.making import all_requests, require_request
from retrain import label_requesting, runs

router = APIRouter(prefix="/api/v1/label-requests", tags=["labels"])


class RequestPart(BaseModel):
    """How far one part is."""

    #: gate, selection, training
    part: str
    patients: int
    scans: int
    patients_labelled: int
    patients_not_read: int
    with_finding: int
    without_finding: int
    #: what became of scans -> how many
    became: dict[str, int]


class Stratum(BaseModel):
    """A stratum of the sample that judges."""

    name: str
    patients: int
    drawn: int
    reserve: int
    #: of each of its patients to be drawn
    chance: float
    read: int
    #: how many of the stratum's patients each who was read stands for
    weight: float | None


class LabelRequest(BaseModel):
    """A request of labels, with the arithmetic behind it."""

    request: int
    run: int
    number: int
    episode: int
    model: str
    task: str
    #: open, complete, cancelled
    state: str
    seed: int
    made_at: AwareDatetime
    made_by: str
    ended_at: AwareDatetime | None
    ended_reason: str | None
    scans: int
    waiting: int
    parts: list[RequestPart]
    strata: list[Stratum]
    frame: dict[str, Any]
    arithmetic: dict[str, Any]
    provenance: list[str]


class LabelRequestInFull(LabelRequest):
    """A request, and what labels that nobody requested say."""

    outside: dict[str, Any]


class WorklistEntry(BaseModel):
    """A scan that is to be read, under surrogates."""

    place: int
    scan: int
    site: str
    patient: str
    study: str
    series: str
    instance: str
    task: str


@router.get("", summary="List label requests", dependencies=[READ])
def list_requests(
    driftward: Installation,
    run: Annotated[int | None, Query(description="Only of this run.", ge=1)] = None,
) -> list[LabelRequest]:
    """Return requests, newest first."""
    with driftward.database.reading() as session:
        return [
            LabelRequest.model_validate(describe_request(session, row))
            for row in all_requests(session, run)
        ]


@router.get("/{number}", summary="Show a label request", dependencies=[READ])
def show_request(number: Number, driftward: Installation) -> LabelRequestInFull:
    """Return one request: arithmetic, parts, strata, and verification bias beside it."""
    with driftward.database.reading() as session:
        row = require_request(session, number)
        outside = label_requesting.outside_labels(
            session, runs.require_run(session, row.run), require_episode(session, row.episode)
        )
        return LabelRequestInFull.model_validate(
            {**describe_request(session, row), "outside": outside.to_dict()}
        )


@router.get(
    "/{number}/worklist", summary="List what is still to be read", dependencies=[READ_RECORD]
)
def show_worklist(
    number: Number, driftward: Installation, caller: KnownCaller
) -> list[WorklistEntry]:
    """Return the scans that wait, in a random order that says nothing of parts or results."""
    with driftward.database.reading() as session:
        return [
            WorklistEntry.model_validate(one, from_attributes=True)
            for one in worklist.worklist(session, require_request(session, number))
            if caller.sites is None or one.site in caller.sites
        ]
