"""Streams of a monitor: how near an alarm each is, and what it saw."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel

from api.http.access import READ
from api.http.installation import Installation
from monitor.following.standing import following
from monitor.monitors import require_monitor

router = APIRouter(prefix="/api/v1/monitors", tags=["monitors"])


class StreamAlarm(BaseModel):
    """What a stream saw of an open episode."""

    episode: int
    #: in one sentence
    says: str
    #: the scan that raised it, and how many there were from the onset to it
    scan: int
    scans: int
    onset: AwareDatetime
    #: between which it began in 9 of 10 cases
    onset_interval: list[AwareDatetime]
    #: detectors that see it, the clearest first
    leading: list[str]
    raised_at: AwareDatetime
    #: when the shift was over, and why it is no longer followed
    ended_at: AwareDatetime | None
    ended_reason: str | None


class Stream(BaseModel):
    """Scans one by one against one deciding reference."""

    encoder: str
    version: str
    #: burning in, watching or shifted
    state: str
    started_at: AwareDatetime
    looked_at: AwareDatetime
    scans: int
    #: scans that came since, and that it has not seen
    waiting: int
    burn_in: int
    burn_in_left: int
    #: as a share of what an alarm takes, 0 to 1
    evidence: float
    #: scans to a false alarm, on average
    scans_between_false_alarms: int
    seen: list[StreamAlarm]
    notes: list[str]


class Streams(BaseModel):
    """All streams of a monitor, and the budget that they share."""

    monitor: str
    #: in plain words; null where scans are not followed one by one
    false_alarms: str | None
    scans_a_day: float | None
    measured: bool
    scans_between_false_alarms: int | None
    says: str
    streams: list[Stream]
    #: why there is no stream where one is wanted
    lacking: str | None


@router.get(
    "/{name}/streams", summary="Show how scans are followed one by one", dependencies=[READ]
)
def show_streams(name: str, driftward: Installation) -> Streams:
    """Return a monitor's streams: evidence, burn-in, budget and open alarms."""
    with driftward.database.reading() as session:
        found = following(session, require_monitor(session, name))
    return Streams.model_validate({"monitor": name, **found.to_dict()})
