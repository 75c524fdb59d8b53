"""An auditor's questions: what read a study, how a model stood, who was trained on what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from api.http.access import READ_RECORD, KnownCaller
from api.http.installation import Installation
from api.http.numbers import Number
from monitor.assembling.stating import person_of
from monitor.intake.pseudonyms import study_pseudonym
from monitor.tables import ScanRow
from registry import versions
from registry.errors import NotFoundError
from registry.versions import VersionRef
from retrain.history import studies
from retrain.history.patients import versions_that_saw
from retrain.history.provenance import trained_on
from retrain.history.standing import reigns_of, require_past, standing_at

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

At = Annotated[
    AwareDatetime | None,
    Query(description="As of then, with a time zone; now, if it is left out."),
]


class StudyQuestion(BaseModel):
    """Which study, at which site; the UID is looked up by its pseudonym and not kept."""

    site: Annotated[str, Field(min_length=1, max_length=64)]
    study: Annotated[str, Field(min_length=1, max_length=64)]
    at: AwareDatetime | None = None


class PatientQuestion(BaseModel):
    """Which patient, at which site; the identifier is looked up by its pseudonym and not kept."""

    site: Annotated[str, Field(min_length=1, max_length=64)]
    patient: Annotated[str, Field(min_length=1, max_length=64)]
    issuer: Annotated[str, Field(max_length=64)] = ""


@router.post(
    "/studies", summary="What read a study, as of a moment", dependencies=[READ_RECORD]
)
def show_study(
    question: StudyQuestion, driftward: Installation, caller: KnownCaller
) -> dict[str, Any]:
    """Return every reading of a study as delivered, and how its model stood then."""
    caller.require_site(question.site)
    keys = driftward.pseudonym_keys.current()
    pseudonym = study_pseudonym(question.study, site=question.site, key=keys)
    with driftward.database.reading() as session:
        scans = studies.scans_of_study(session, pseudonym, site=question.site)
        return studies.as_of(session, scans, _moment(driftward, question.at))


@router.get(
    "/scans/{scan}", summary="What read a scan, as of a moment", dependencies=[READ_RECORD]
)
def show_scan(
    scan: Number, driftward: Installation, caller: KnownCaller, at: At = None
) -> dict[str, Any]:
    """Return every reading of a scan as delivered, and how its model stood then."""
    with driftward.database.reading() as session:
        row = session.get(ScanRow, scan)
        if row is None:
            raise NotFoundError(f"there is no scan {scan}")
        caller.require_site(row.site)
        return studies.as_of(session, [row], _moment(driftward, at))


@router.get(
    "/models/{name}/standing",
    summary="How a model stood at a moment",
    dependencies=[READ_RECORD],
)
def show_standing(
    name: str,
    driftward: Installation,
    at: At = None,
    site: Annotated[
        str | None,
        Query(min_length=1, max_length=64, description="As it stood there; else everywhere."),
    ] = None,
) -> dict[str, Any]:
    """Return a model's champion, plan, restrictions and open episodes as of a moment."""
    with driftward.database.reading() as session:
        versions.require_model(session, name)
        return standing_at(session, name, _moment(driftward, at), site=site)


@router.get(
    "/models/{name}/champions",
    summary="Every champion that a model has had",
    dependencies=[READ_RECORD],
)
def list_champions(name: str, driftward: Installation) -> list[dict[str, Any]]:
    """Return a model's champions, oldest first."""
    with driftward.database.reading() as session:
        versions.require_model(session, name)
        return reigns_of(session, name)


@router.get(
    "/models/{name}/versions/{number}/training",
    summary="What a version was trained on",
    dependencies=[READ_RECORD],
)
def show_training(name: str, number: Number, driftward: Installation) -> list[dict[str, Any]]:
    """Return the data behind a version, and behind each one that it was derived from."""
    with driftward.database.reading() as session:
        found = versions.find(session, VersionRef(model=name, number=number))
        return trained_on(session, found)


@router.post("/patients", summary="Which versions saw a patient", dependencies=[READ_RECORD])
def show_patient(
    question: PatientQuestion, driftward: Installation, caller: KnownCaller
) -> dict[str, Any]:
    """Return every version that saw a patient, how, and what erasure would do to each."""
    caller.require_site(question.site)
    keys = driftward.pseudonym_keys.current()
    with driftward.database.reading() as session:
        person = person_of(
            session, question.patient, site=question.site, issuer=question.issuer, key=keys
        )
        return versions_that_saw(session, person)


def _moment(driftward: Installation, at: datetime | None) -> datetime:
    now = driftward.clock.now()
    return now if at is None else require_past(at, now=now)
