"""The quarantine: what was not taken in and why; never the content of an item."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from api.http.access import READ_OWN_SITES, READ_SITE, KnownCaller
from api.http.installation import Installation
from api.http.paging import Limit
from monitor.intake.keeping import chosen
from monitor.intake.quarantine import counts_of
from monitor.intake.reasons import Reason
from monitor.intake.ways_out import WAYS_OUT

router = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])


class Item(BaseModel):
    """What may be known of an item."""

    id: str
    reason: Reason
    #: a sentence without patient data
    detail: str
    site: str
    #: when it was first refused
    at: AwareDatetime
    #: bytes of the original
    size: int
    #: false where the original was too large to keep
    kept: bool
    #: that it came and was refused, by whatever road
    times: int
    #: when it last came; None where it came once
    last_at: AwareDatetime | None


class ItemWithWayOut(Item):
    """An item, what its reason means, and what to do about it."""

    meaning: str
    action: str
    expires: AwareDatetime


class Count(BaseModel):
    """The items of one site that were refused for one reason."""

    reason: Reason
    site: str
    items: int
    #: bytes of their originals
    size: int
    oldest: AwareDatetime


class Counts(BaseModel):
    """How much is in quarantine."""

    items: int
    size: int
    oldest: AwareDatetime | None
    #: files in the folder that are no items
    foreign_files: int
    kept_for_days: int
    counts: list[Count]


@router.get("", summary="List quarantined items", dependencies=[READ_SITE])
def list_items(
    driftward: Installation,
    reason: Reason | None = None,
    site: str | None = None,
    before: Annotated[
        str | None, Query(description="Only what is older than the item of this id.")
    ] = None,
    limit: Limit = 100,
) -> list[Item]:
    """Return items, newest first."""
    items = chosen(driftward.quarantine, reason=reason, site=site)
    if before is not None:
        last = driftward.quarantine.find(before)
        items = [item for item in items if (item.at, item.id) < (last.at, last.id)]
    return [
        Item.model_validate(item, from_attributes=True) for item in items[: -limit - 1 : -1]
    ]


@router.get("/counts", summary="Count quarantined items", dependencies=[READ_OWN_SITES])
def count_items(driftward: Installation, caller: KnownCaller) -> Counts:
    """Return counts by reason and site, the most frequent first."""
    listing = driftward.quarantine.listing()
    items = [
        item for item in listing.items if caller.sites is None or item.site in caller.sites
    ]
    return Counts(
        items=len(items),
        size=sum(item.size for item in items),
        oldest=items[0].at if items else None,
        foreign_files=listing.foreign,
        kept_for_days=driftward.settings.quarantine_days,
        counts=[
            Count.model_validate(count, from_attributes=True) for count in counts_of(items)
        ],
    )


@router.get("/{item}", summary="Show a quarantined item", dependencies=[READ_OWN_SITES])
def show_item(item: str, driftward: Installation, caller: KnownCaller) -> ItemWithWayOut:
    """Return one item, what its reason means, and what to do about it."""
    found = driftward.quarantine.find(item)
    caller.require_site(found.site)
    way_out = WAYS_OUT[found.reason]
    return ItemWithWayOut(
        **Item.model_validate(found, from_attributes=True).model_dump(),
        meaning=way_out.meaning,
        action=way_out.action,
        expires=found.at + timedelta(days=driftward.settings.quarantine_days),
    )
