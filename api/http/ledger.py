"""The ledger: its entries, and whether it still stands."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from api.http.access import READ_RECORD, VERIFY
from api.http.installation import Desk, Installation
from api.http.paging import Before, Limit
from api.pages.ledger_page import entries_before

router = APIRouter(prefix="/api/v1/ledger", tags=["ledger"])


class Entry(BaseModel):
    """One entry."""

    sequence: int
    recorded_at: AwareDatetime
    actor: str
    kind: str
    subject: str
    facts: dict[str, Any]
    digest: str


class Fault(BaseModel):
    """The first place where ledger or tables disagree."""

    sequence: int
    problem: str


class ClockSetBack(BaseModel):
    """The largest step back of time between entries."""

    #: the entry that is dated before one that it follows
    sequence: int
    seconds: float


class Verification(BaseModel):
    """What a verification found."""

    valid: bool
    entries: int
    head: str
    fault: Fault | None
    #: triggers that guard the record, and are missing or were changed
    unguarded: list[str]
    #: breaks nothing, and asks for an explanation; null where there was none
    clock_set_back: ClockSetBack | None
    verified_at: AwareDatetime


@router.get("/entries", summary="List entries", dependencies=[READ_RECORD])
def list_entries(
    driftward: Installation,
    kind: Annotated[str | None, Query(description="As `noun.verb`.")] = None,
    subject: Annotated[str | None, Query(description="What it happened to.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> list[Entry]:
    """Return entries, newest first."""
    with driftward.database.reading() as session:
        found = entries_before(session, kind=kind, subject=subject, before=before, limit=limit)
        return [Entry.model_validate(entry, from_attributes=True) for entry in found]


@router.get("/verification", summary="Verify the ledger now", dependencies=[VERIFY])
def verify(desk: Desk) -> Verification:
    """Verify the chain, and every sealed row against it; names the first fault."""
    verified = desk.verify()
    fault, back = verified.found.fault, verified.found.set_back
    return Verification(
        valid=verified.found.valid,
        entries=verified.found.entries,
        head=verified.found.head,
        fault=Fault(sequence=fault.sequence, problem=fault.problem) if fault else None,
        unguarded=list(verified.found.unguarded),
        clock_set_back=ClockSetBack(sequence=back.sequence, seconds=back.by.total_seconds())
        if back
        else None,
        verified_at=verified.at,
    )
