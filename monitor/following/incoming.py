"""Which scans a stream sees next: as they were registered, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, and_, exists, false, func, select
from sqlalchemy.orm import Session, aliased

from monitor.assembling.counting import not_withdrawn
from monitor.embeddings import STORED
from monitor.tables import (
    DatasetMember,
    EmbeddingRow,
    ReferenceRow,
    RefusalRow,
    ScanRow,
    StreamRow,
    StreamScan,
)
from registry.bundles.preprocessing import Unit
from registry.version_units import unit_of
from registry.versions import VersionRow

#: Behind the newest scan, by id, among which one is looked for that was registered later than
#: its number says: two receivers may commit in another order than they began.
LOOK_BACK = 2000
#: A scan that is stamped so long before the newest one came out of order.
LATE = timedelta(days=1)


class Odd(StrEnum):
    """What can be the matter with a scan of a stream."""

    #: outside the intended use, so that nobody embedded it
    REFUSED = "refused"
    #: one of the reference's own
    OWN = "of the reference"
    #: stamped before the reference was accepted: no window would judge it
    BEFORE = "before the reference"
    #: superseded by a later revision, or rejected
    WITHDRAWN = "withdrawn"
    #: another revision of it was seen: one series is one scan of the stream
    AGAIN = "seen before"
    #: no number can be made of its embedding
    UNUSABLE = "unusable"
    #: seen; stamped after now
    AHEAD = "ahead"
    #: seen; stamped over a day before one that was seen before it
    LATE = "late"


#: What is passed over.
PASSED = (Odd.REFUSED, Odd.OWN, Odd.BEFORE, Odd.WITHDRAWN, Odd.AGAIN, Odd.UNUSABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The next scan of a stream."""

    scan: int
    patient: str
    arrived_at: datetime
    #: float32, [d]; None if it is passed over
    vector: npt.NDArray[np.float32] | None
    odd: Odd | None


def next_arrivals(
    session: Session,
    stream: StreamRow,
    reference: ReferenceRow,
    model: str,
    *,
    most: int,
    now: datetime,
) -> list[Arrival]:
    """Return the scans that a stream sees next, those that it passes over among them.

    They end before the first that is not embedded yet: it would have come too early.
    """
    unit = unit_of(session.get_one(VersionRow, reference.version))
    oldest = max(stream.starts_after, stream.newest_scan - LOOK_BACK)
    dealt_with = exists().where(StreamScan.stream == stream.id, StreamScan.scan == ScanRow.id)
    refused = exists().where(RefusalRow.scan == ScanRow.id, RefusalRow.model == model)
    own = exists().where(
        DatasetMember.scan == ScanRow.id, DatasetMember.dataset == reference.dataset
    )
    rows = session.execute(
        select(
            ScanRow.id,
            ScanRow.site,
            ScanRow.person,
            ScanRow.arrived_at,
            EmbeddingRow.vector,
            refused.label("refused"),
            own.label("own"),
            (~not_withdrawn()).label("withdrawn"),
            _seen_before(stream, unit).label("again"),
        )
        .outerjoin(
            EmbeddingRow,
            and_(
                EmbeddingRow.scan == ScanRow.id,
                EmbeddingRow.version == reference.version,
                EmbeddingRow.scan > oldest,  # said twice, so that older parts are left out
            ),
        )
        .where(
            ScanRow.unit == unit.value,
            ScanRow.id > oldest,
            ~dealt_with,
        )
        .order_by(ScanRow.id)
        .limit(most)
    ).all()
    if not rows:
        return []
    found: list[Arrival] = []
    since = reference.accepted_at
    newest = _newest_arrival(session, stream, reference, now=now)
    vectors, usable = _decoded([row.vector for row in rows])
    for row, vector, finite in zip(rows, vectors, usable, strict=True):
        scan, site, person, arrived_at, _, *why = row
        # Whether it was embedded or not.
        odd = _passed(*why, before=arrived_at < since)
        if odd is None:
            if vector is None:
                break
            if arrived_at > now:
                odd = Odd.AHEAD
            elif arrived_at < newest - LATE:
                odd = Odd.LATE
            newest = max(newest, arrived_at) if arrived_at <= now else newest
            if not finite:
                odd = Odd.UNUSABLE
        found.append(
            Arrival(
                scan=scan,
                patient=f"{site}/{person}",
                arrived_at=arrived_at,
                vector=None if odd in PASSED else vector,
                odd=odd,
            )
        )
    return found


def _passed(
    refused: bool, own: bool, withdrawn: bool, again: bool, *, before: bool
) -> Odd | None:
    """Return why a scan is passed over, by the first reason that holds."""
    if own:
        return Odd.OWN
    if refused:
        return Odd.REFUSED
    if withdrawn:
        return Odd.WITHDRAWN
    if again:
        return Odd.AGAIN
    return Odd.BEFORE if before else None


def _decoded(
    stored: Sequence[bytes | None],
) -> tuple[list[npt.NDArray[np.float32] | None], list[bool]]:
    """Return embeddings [d] as they were stored, None where there is none, and which are finite.

    Together, since numpy takes as long for one as for some hundred.
    """
    there = [one for one in stored if one is not None]
    if not there:
        return [None] * len(stored), [False] * len(stored)
    whole = np.frombuffer(b"".join(there), dtype=STORED).reshape(len(there), -1)
    singles = whole.astype(np.float32)
    usable: list[bool] = np.asarray(np.isfinite(singles).all(axis=1)).tolist()
    each = iter(zip(singles, usable, strict=True))
    found = [(None, False) if one is None else next(each) for one in stored]
    return [vector for vector, _ in found], [finite for _, finite in found]


def _seen_before(stream: StreamRow, unit: Unit) -> ColumnElement[bool]:
    """Return the condition that a stream has seen another revision of a series or a study."""
    if unit is Unit.INSTANCE:
        return false()
    other = aliased(ScanRow)
    return exists().where(
        StreamScan.stream == stream.id,
        StreamScan.number.is_not(None),
        StreamScan.scan == other.id,
        other.unit == ScanRow.unit,
        other.site == ScanRow.site,
        other.study == ScanRow.study,
        other.series == ScanRow.series,
        other.id != ScanRow.id,
    )


def waiting(session: Session, stream: StreamRow) -> int:
    """Count the scans that were registered since the newest that a stream dealt with."""
    reference = session.get_one(ReferenceRow, stream.reference)
    unit = unit_of(session.get_one(VersionRow, reference.version))
    query = select(func.count(ScanRow.id)).where(
        ScanRow.id > stream.newest_scan, ScanRow.unit == unit.value
    )
    return session.scalar(query) or 0


def moments(
    session: Session,
    stream: StreamRow,
    reference: ReferenceRow,
    numbers: Sequence[int],
    *,
    just_seen: Sequence[Arrival] = (),
    now: datetime,
) -> list[datetime]:
    """Return when scans of a stream arrived, by their numbers in it.

    A scan that is stamped after now, or was stamped over a day late, cannot tell: the next
    one that can stands in for it, and the newest that can where there is none.

    Parameters
    ----------
    just_seen : scans whose rows are not stored yet; they go on from the stored ones
    """
    stored = session.execute(
        select(StreamScan.number, ScanRow.arrived_at)
        .join(ScanRow, ScanRow.id == StreamScan.scan)
        .where(StreamScan.stream == stream.id, StreamScan.number >= min(numbers))
        .order_by(StreamScan.number)
    )
    arrivals = [(number, at) for number, at in stored if number is not None]
    seen = [one.arrived_at for one in just_seen if one.vector is not None]
    arrivals += list(enumerate(seen, start=stream.scans))
    newest = reference.accepted_at
    told: list[tuple[int, datetime]] = []
    for number, arrived_at in arrivals:
        if newest - LATE <= arrived_at <= now:
            newest = max(newest, arrived_at)
            told.append((number, arrived_at))
    return [next((at for place, at in told if place >= wanted), newest) for wanted in numbers]


def _newest_arrival(
    session: Session, stream: StreamRow, reference: ReferenceRow, *, now: datetime
) -> datetime:
    """Return when the newest scan of a stream arrived, or when its reference was accepted."""
    newest = session.scalar(
        select(func.max(ScanRow.arrived_at))
        .join(StreamScan, StreamScan.scan == ScanRow.id)
        .where(
            StreamScan.stream == stream.id,
            StreamScan.scan > stream.newest_scan - LOOK_BACK,
            StreamScan.number.is_not(None),
            ScanRow.arrived_at <= now,
        )
    )
    return newest if newest is not None else reference.accepted_at
