"""Scans, without pseudonyms: attributes, history and a de-identified picture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from api.http.access import READ_OWN_SITES, READ_SITE, KnownCaller
from api.http.installation import Installation
from api.http.numbers import Number
from api.http.paging import Before, Limit
from monitor.assembling.composition import pictured
from monitor.imaging.frames import frame_count, middle_frame
from monitor.imaging.pixels import decode, thumbnail_png
from monitor.scan_history import describe_scan
from monitor.tables import ScanRow
from registry.errors import NotFoundError

router = APIRouter(prefix="/api/v1/scans", tags=["scans"])

THUMBNAIL_SIDE = 192


class Scan(BaseModel):
    """What a scan is, besides its pixels."""

    id: int
    site: str
    #: instance, series or study
    unit: str
    modality: str
    body_part: str | None
    view: str | None
    manufacturer: str | None
    scanner_model: str | None
    software_version: str | None
    station: str | None
    protocol: str | None
    sex: str | None
    age_years: int | None
    #: as far as the setting keeps it: a month (2024-03) or a shifted day (2024-03-17)
    study_date: str | None
    arrived_at: AwareDatetime


class MadeOf(BaseModel):
    """What a series or a study is made of."""

    revision: int
    instances: int
    #: as many as the sender announced, where it did
    expected: int | None
    #: expected, stated, quiet, waited or changed
    settled_by: str
    incomplete: bool


class Result(BaseModel):
    """What a version said of the scan."""

    version: str
    task: str
    #: of the finding; null where the task has several, or none
    probability: float | None
    #: null of a task that decides nothing by one
    threshold: float | None
    #: the probability of every class by its name
    classes: dict[str, float]
    #: what the threshold decides, in words
    says: str
    #: delivered, withheld or background
    delivery: str
    at: AwareDatetime


class Refusal(BaseModel):
    """A model that the scan is not for."""

    model: str
    reason: str


class Label(BaseModel):
    """Delayed ground truth."""

    task: str
    #: number of the class; of a multi-label task 1 if any class holds, and else 0
    value: int
    #: of a multi-label task: the classes that hold
    classes: list[str] | None
    provenance: str
    ai_influenced: bool
    #: why, in words
    influence: str
    #: null where the report does not say
    signed_at: AwareDatetime | None


class Truth(BaseModel):
    """What is true of a task by all labels, or that readers disagree."""

    task: str
    #: no truth until it is adjudicated; all that follows is null then
    disputed: bool
    value: int | None = None
    classes: list[str] | None = None
    provenance: str | None = None
    ai_influenced: bool | None = None
    #: those that were counted, by number
    labels: list[int]


class ScanHistory(Scan):
    """A scan, who read it, what was said, and what was true."""

    #: from the month of the study to that of its arrival; None where no month is kept
    months_after_study: int | None
    made_of: MadeOf | None
    #: superseded, rejected or emptied; None where it counts
    withdrawn: str | None
    results: list[Result]
    refused: list[Refusal]
    labels: list[Label]
    truth: list[Truth]


@router.get("", summary="List scans", dependencies=[READ_SITE])
def list_scans(
    driftward: Installation,
    site: Annotated[str | None, Query(description="Only of this site.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> list[Scan]:
    """Return scans, newest first."""
    with driftward.database.reading() as session:
        query = select(ScanRow).order_by(ScanRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(ScanRow.id < before)
        if site is not None:
            query = query.where(ScanRow.site == site)
        return [
            Scan.model_validate(row, from_attributes=True) for row in session.scalars(query)
        ]


@router.get("/{number}", summary="Show a scan's history", dependencies=[READ_OWN_SITES])
def show_scan(number: Number, driftward: Installation, caller: KnownCaller) -> ScanHistory:
    """Return one scan with its results, refusals and labels."""
    with driftward.database.reading() as session:
        history = ScanHistory.model_validate(describe_scan(session, number))
    caller.require_site(history.site)
    return history


@router.get(
    "/{number}/thumbnail.png",
    summary="Show a scan's picture",
    dependencies=[READ_OWN_SITES],
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def show_thumbnail(number: Number, driftward: Installation, caller: KnownCaller) -> Response:
    """Return a small picture of the de-identified scan, as a viewer would show it."""
    with driftward.database.reading() as session:
        scan = session.get(ScanRow, number)
        if scan is None:
            raise NotFoundError(f"there is no scan {number}: see `driftward scan list`")
        caller.require_site(scan.site)
        row = pictured(session, scan)
    ds = driftward.vault.dataset(row.vault_digest)
    image = decode(ds, frame=middle_frame(frame_count(ds)))
    return Response(thumbnail_png(image, THUMBNAIL_SIDE), media_type="image/png")
