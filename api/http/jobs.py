"""Jobs: what is queued, running, done or failed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from api.http.access import READ
from api.http.installation import Installation
from api.http.numbers import Number
from api.http.paging import Before, Limit
from registry.errors import NotFoundError
from registry.jobs import Job, JobState

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


class JobInTable(BaseModel):
    """One piece of work."""

    id: int
    kind: str
    key: str
    state: JobState
    attempts: int
    worker: str | None
    leased_until: AwareDatetime | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    error: str | None


@router.get("", summary="List jobs", dependencies=[READ])
def list_jobs(
    driftward: Installation,
    state: Annotated[JobState | None, Query(description="Only in this state.")] = None,
    kind: Annotated[str | None, Query(description="Only of this kind.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> list[JobInTable]:
    """Return jobs, newest first."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if before is not None:
        query = query.where(Job.id < before)
    with driftward.database.reading() as session:
        return [
            JobInTable.model_validate(row, from_attributes=True)
            for row in session.scalars(query)
        ]


@router.get("/{number}", summary="Show a job", dependencies=[READ])
def show_job(number: Number, driftward: Installation) -> JobInTable:
    """Return one job."""
    with driftward.database.reading() as session:
        row = session.get(Job, number)
        if row is None:
            raise NotFoundError(f"there is no job {number}")
        return JobInTable.model_validate(row, from_attributes=True)
