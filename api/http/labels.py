"""Labels: brought in by other programs, and where readers disagree.

Who brings them must be an operator for the site. Only media types that no page of another site can
send by itself are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel

from api.assembly import Driftward
from api.http import problems
from api.http.access import BRING_IN, READ_SITE, Caller, KnownCaller
from api.http.dicomweb import RefusedRequestError, StoringDesk
from api.http.forms import read_body
from api.http.installation import Installation
from api.http.multipart import media_type
from api.http.paging import Before, Limit
from monitor.labelling.json_texts import read_json
from monitor.labelling.listing import (
    agreements,
    describe_label,
    disputed_scans,
    newest_labels,
)
from monitor.labelling.provenance import Provenance
from monitor.labelling.tabular import COLUMNS
from monitor.labels import LabelImport
from registry.errors import BadInputError, LabelError

router = APIRouter(prefix="/api/v1/labels", tags=["labels"])

#: As large as the largest file of reports may be.
LARGEST_BODY = 16 << 20
JSON = "application/json"
#: Media type -> what errors call what comes so.
REPORTS = {
    "application/dicom": "the DICOM file",
    "application/fhir+json": "the FHIR document",
    "text/csv": "the table",
}
_FHIR_RELEASES = ("4.0", "4.0.1", "")

Site = Annotated[str, Query(min_length=1, max_length=64, description="The site of the scans.")]


class Label(BaseModel):
    """One label as it was signed."""

    label: int
    scan: int
    task: str
    #: number of the class; of a multi-label task 1 if any class holds, and else 0
    value: int
    #: of a multi-label task: the classes that hold
    classes: list[str] | None
    provenance: str
    #: a code that the site chose, or a keyed pseudonym
    reader: str
    #: null where the report does not say
    signed_at: AwareDatetime | None
    ai_influenced: bool
    influence_reason: str | None
    #: the reason in words
    influence: str
    arrived_at: AwareDatetime


class Taken(BaseModel):
    """What came of an import."""

    added: int
    #: the same label again
    known: int
    ai_influenced: int
    #: scans among them whose readers disagree
    disputed: int
    #: coded statements of concepts that the mapping does not name
    passed_over: int


class DisputedScan(BaseModel):
    """A scan that has no truth until it is adjudicated."""

    scan: int
    task: str
    site: str
    since: AwareDatetime
    labels: list[Label]


class Pair(BaseModel):
    """How far two readers agree."""

    readers: tuple[str, str]
    scans: int
    agreed: int
    kappa: float | None


class Group(BaseModel):
    """How far readers agree on scans that so many of them labelled."""

    readers: int
    scans: int
    unanimous: int
    kappa: float | None


class Agreement(BaseModel):
    """How far the readers of a task agree: Cohen's kappa of pairs, Fleiss' of groups."""

    task: str
    about: str | None
    pairs: list[Pair]
    groups: list[Group]


_ROWS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["labels"],
                    "additionalProperties": False,
                    "properties": {
                        "labels": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": list(COLUMNS),
                                "additionalProperties": False,
                                "properties": {
                                    "instance": {
                                        "type": "string",
                                        "description": "SOP Instance UID; becomes a pseudonym",
                                    },
                                    "task": {"type": "string"},
                                    "value": {
                                        "anyOf": [
                                            {"type": "integer"},
                                            {"type": "string"},
                                            {"type": "array", "items": {"type": "string"}},
                                        ]
                                    },
                                    "provenance": {"enum": [*Provenance]},
                                    "reader": {"type": "string"},
                                    "signed_at": {
                                        "anyOf": [
                                            {"type": "string", "format": "date-time"},
                                            {"type": "null"},
                                        ]
                                    },
                                },
                            },
                        }
                    },
                }
            }
        },
    }
}
_FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}} for name in REPORTS
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"description": "More than may come at once."},
    415: {"description": "Another media type."},
    422: {"description": "Something of it cannot be used; nothing was taken."},
    503: {"description": "Too many are read at this moment: send it again later."},
}


@router.get("", summary="List labels", dependencies=[READ_SITE])
def list_labels(
    driftward: Installation,
    task: str | None = None,
    site: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> list[Label]:
    """Return labels, newest first."""
    with driftward.database.reading() as session:
        rows = newest_labels(session, task=task, site=site, before=before, limit=limit)
        return [Label.model_validate(describe_label(row)) for row in rows]


@router.get("/disputed", summary="List disputed scans", dependencies=[READ_SITE])
def list_disputed(
    driftward: Installation, task: str | None = None, site: str | None = None
) -> list[DisputedScan]:
    """Return the scans whose readers disagree, the oldest first."""
    with driftward.database.reading() as session:
        return [
            DisputedScan(
                scan=one.scan,
                task=one.task,
                site=one.site,
                since=one.since,
                labels=[Label.model_validate(describe_label(row)) for row in one.voices],
            )
            for one in disputed_scans(session, task=task, site=site)
        ]


@router.get("/agreement", summary="Show how far readers agree", dependencies=[READ_SITE])
def list_agreement(
    driftward: Installation, task: str | None = None, site: str | None = None
) -> list[Agreement]:
    """Return how far readers agree, by task, and by class of a multi-label task."""
    with driftward.database.reading() as session:
        return [
            Agreement(
                task=one.task,
                about=one.about,
                pairs=[Pair.model_validate(pair, from_attributes=True) for pair in one.pairs],
                groups=[
                    Group.model_validate(group, from_attributes=True) for group in one.groups
                ],
            )
            for one in agreements(session, task=task, site=site)
        ]


@router.post(
    "",
    summary="Bring labels in, all or none",
    dependencies=[BRING_IN],
    response_model=Taken,
    openapi_extra=_ROWS,
    responses=_REFUSALS,
)
async def add_labels(
    site: Site, request: Request, driftward: Installation, caller: KnownCaller
) -> Taken | Response:
    """Take labels of a site in; the columns are those of a CSV file.

    413 if the body is too large, 415 if it is no JSON, 422 if a label cannot be taken.
    """

    def take(body: bytes, _kind: str) -> LabelImport:
        return driftward.label_intake.add_rows(
            lambda: _rows(body), content=body, site=site, by=caller.identity
        )

    return await _answered(request, (JSON,), take, driftward, caller, site=site)


@router.post(
    "/reports",
    summary="Bring a report in: DICOM SR (TID 1500), FHIR R4 JSON or CSV",
    dependencies=[BRING_IN],
    response_model=Taken,
    openapi_extra=_FILES,
    responses=_REFUSALS,
)
async def add_report(
    site: Site,
    request: Request,
    driftward: Installation,
    caller: KnownCaller,
    provenance: Provenance | None = None,
) -> Taken | Response:
    """Take the labels of a report in, all or none, by the mapping in force.

    413 if the body is too large, 415 for another media type, 422 if it cannot be taken.
    """

    def take(body: bytes, kind: str) -> LabelImport:
        return driftward.label_intake.add_content(
            body,
            name=REPORTS[kind],
            site=site,
            by=caller.identity,
            provenance=provenance,
        )

    return await _answered(request, tuple(REPORTS), take, driftward, caller, site=site)


async def _answered(
    request: Request,
    accepted: tuple[str, ...],
    take: Callable[[bytes, str], LabelImport],
    driftward: Driftward,
    caller: Caller,
    *,
    site: str,
) -> Taken | Response:
    """Take in what a request brings; refuse a body that is not read in one place."""
    desk: StoringDesk = request.app.state.storing
    try:
        kind = _require_media(request, accepted)
        async with desk.turn():
            body = await _body(request)
            return _taken(await desk.run(lambda: take(body, kind)))
    except RefusedRequestError as refused:
        if refused.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            await desk.run(lambda: _record_size(driftward, site, caller))
        problem = problems.answer(
            request, refused.status, refused.status.phrase, refused.detail
        )
        problem.headers["connection"] = "close"
        return problem


def _record_size(driftward: Driftward, site: str, caller: Caller) -> None:
    error = LabelError("a request is too large", problem="too_large")
    driftward.label_intake.record_refusal(
        error, form=None, digest=None, site=site, by=caller.identity
    )


def _taken(report: LabelImport) -> Taken:
    return Taken(
        added=report.added,
        known=report.known,
        ai_influenced=report.ai_influenced,
        disputed=report.disputed,
        passed_over=report.passed_over,
    )


def _rows(body: bytes) -> list[dict[str, object]]:
    """Return the rows of a body.

    Raises
    ------
    LabelError
        Naming the row and what it lacks, never what it has.
    """
    document = read_json(body, file="the request")
    rows = document.get("labels") if isinstance(document, dict) else None
    if (
        not isinstance(document, dict)
        or set(document) != {"labels"}
        or not isinstance(rows, list)
    ):
        raise LabelError(
            'the request: an object with the one key "labels", a list, is expected'
        )
    for number, row in enumerate(rows):
        place = f"labels[{number}]"
        missing = [name for name in COLUMNS if not isinstance(row, dict) or name not in row]
        if missing:
            raise LabelError(f"{place} lacks {', '.join(missing)}", place=place)
        if len(row) > len(COLUMNS):
            raise LabelError(
                f"{place} has another key than {', '.join(COLUMNS)}: leave it out", place=place
            )
        texts = [name for name in COLUMNS if name not in {"value", "signed_at"}]
        wrong = [name for name in texts if not isinstance(row[name], str)]
        if not isinstance(row["signed_at"], str | None):
            wrong.append("signed_at")
        if wrong:
            raise LabelError(f"{place}: {', '.join(wrong)} must be text", place=place)
    return rows


def _require_media(request: Request, accepted: tuple[str, ...]) -> str:
    """Return the media type of a body, or refuse it."""
    said = media_type(request.headers.get("content-type", ""))
    encoded = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if said.name not in accepted or encoded:
        raise RefusedRequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"{' or '.join(accepted)} is taken, without Content-Encoding",
        )
    release = said.parameters.get("fhirversion", "")
    if said.name == "application/fhir+json" and release not in _FHIR_RELEASES:
        raise RefusedRequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "FHIR R4 is taken: fhirVersion=4.0"
        )
    return said.name


async def _body(request: Request) -> bytes:
    try:
        return await read_body(request, largest=LARGEST_BODY)
    except BadInputError as error:
        raise RefusedRequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a request may have {LARGEST_BODY >> 20} MB: split it",
        ) from error
