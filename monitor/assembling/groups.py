"""Instances that belong together, and whether all of them are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, exists, func, literal, select, union
from sqlalchemy.orm import Session, aliased

from monitor.assembling.counting import Settling, not_withdrawn, read_as
from monitor.assembling.stability import stable_since
from monitor.assembling.tables import (
    AssemblyProgressRow,
    InstancePlaceRow,
    ScanMemberRow,
    WithdrawnScanRow,
)
from monitor.tables import ScanRow
from registry.bundles.preprocessing import Unit

#: Behind the newest instance that was looked at, by id: two receivers may commit in another
#: order than they began.
LOOK_BACK = 2000


class SettledBy(StrEnum):
    """Why a series or a study was taken to be whole."""

    EXPECTED = "expected"  #: as many came as the sender announced
    STATED = "stated"  #: the server that it came from said that it is complete
    QUIET = "quiet"  #: nothing came for a while
    WAITED = "waited"  #: it went on coming for as long as anyone waits
    CHANGED = "changed"  #: an instance of it was rejected


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """What instances belong together by."""

    site: str
    study: str
    series: str  #: "" where the study is the unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The instances of a series or a study that count, and the scan that it is so far."""

    key: GroupKey
    instances: tuple[ScanRow, ...]
    places: dict[int, InstancePlaceRow]  #: by scan; those from before places were kept lack one
    current: ScanRow | None
    members: frozenset[int]  #: of the current scan
    newest_of_study: datetime  #: when the last instance of its study came
    #: when it was last said of the group, and of its study, that nothing more comes
    stable_since: datetime | None = None
    study_stable_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A group that is to become a scan, or its next revision."""

    by: SettledBy
    at: datetime
    expected: int | None
    incomplete: bool


def settled(group: Group, unit: Unit, settling: Settling, *, now: datetime) -> Settled | None:
    """Say whether a group has settled, and when; None while it waits, or is a scan as it is."""
    ids = {row.id for row in group.instances}
    gone = group.members - ids
    expected = _announced(group, unit)
    lacking = expected is not None and len(ids | gone) < expected
    loose = [row.arrived_at for row in group.instances if row.id not in group.members]
    found: tuple[SettledBy, datetime] | None
    if loose:
        whole = expected is not None and not lacking and not settling.by_study
        until = group.newest_of_study if settling.by_study else max(loose)
        stated = group.study_stable_since if settling.by_study else group.stable_since
        found = _arrived(loose, until, settling, whole=whole, stated=stated, now=now)
    elif gone and group.current is not None:
        found = (SettledBy.CHANGED, group.current.arrived_at)
    else:
        found = None
    if found is None:
        return None
    by, at = found
    return Settled(
        by=by, at=at, expected=expected, incomplete=lacking or by is SettledBy.WAITED
    )


def _announced(group: Group, unit: Unit) -> int | None:
    """Return how many instances the sender said there are; of several such the largest."""
    counts = (
        place.series_instances if unit is Unit.SERIES else place.study_instances
        for place in group.places.values()
    )
    return max((count for count in counts if count is not None), default=None)


def _arrived(
    loose: Sequence[datetime],
    newest: datetime,
    settling: Settling,
    *,
    whole: bool,
    stated: datetime | None,
    now: datetime,
) -> tuple[SettledBy, datetime] | None:
    longest = timedelta(hours=settling.longest_wait_hours)
    quiet_at = newest + timedelta(seconds=settling.settle_seconds)
    waited_at = max(min(loose) + longest, newest)
    if whole:
        return SettledBy.EXPECTED, newest
    if stated is not None and newest <= stated <= min(now, quiet_at):
        return SettledBy.STATED, stated
    if quiet_at <= now:
        return SettledBy.QUIET, quiet_at
    if waited_at <= now:
        return SettledBy.WAITED, waited_at
    if newest - now > longest:
        # Stamped by a clock that ran ahead: nothing waits for that day.
        return SettledBy.WAITED, now
    return None


def unfinished(session: Session, unit: Unit) -> list[GroupKey]:
    """Return the groups with instances that are in no scan that counts, or no longer count."""
    through = session.get(AssemblyProgressRow, unit.value)
    series = ScanRow.series if unit is Unit.SERIES else literal("")
    loose = select(ScanRow.site, ScanRow.study, series).where(
        ScanRow.id > (through.through - LOOK_BACK if through else 0), *_loose(unit)
    )
    scan = aliased(ScanRow)
    gone = aliased(WithdrawnScanRow)
    of_scan = scan.series if unit is Unit.SERIES else literal("")
    changed = (
        select(scan.site, scan.study, of_scan)
        .join(ScanMemberRow, ScanMemberRow.scan == scan.id)
        .join(gone, gone.scan == ScanMemberRow.member)
        .where(scan.unit == unit.value, ~_withdrawn(scan))
    )
    found = session.execute(union(loose, changed))
    return sorted(GroupKey(site, study, of) for site, study, of in found)


def looked_through(session: Session, unit: Unit) -> int:
    """Return the number below which no instance waits, by id."""
    row = session.get(AssemblyProgressRow, unit.value)
    waiting = session.scalar(
        select(func.min(ScanRow.id)).where(
            ScanRow.id > (row.through - LOOK_BACK if row else 0), *_loose(unit)
        )
    )
    if waiting is not None:
        return waiting - 1
    newest = select(func.max(ScanRow.id)).where(ScanRow.unit == Unit.INSTANCE.value)
    return session.scalar(newest) or 0


def read_group(session: Session, unit: Unit, key: GroupKey) -> Group:
    """Return a group as it stands."""
    together: list[ColumnElement[bool]] = [ScanRow.site == key.site, ScanRow.study == key.study]
    if unit is Unit.SERIES:
        together.append(ScanRow.series == key.series)
    instances = session.scalars(
        select(ScanRow)
        .where(*together, read_as(Unit.INSTANCE), ~_captured())
        .order_by(ScanRow.id)
    ).all()
    current = session.scalars(
        select(ScanRow).where(*together, read_as(unit)).order_by(ScanRow.id.desc())
    ).first()
    members: Sequence[int] = ()
    if current is not None:
        members = session.scalars(
            select(ScanMemberRow.member).where(ScanMemberRow.scan == current.id)
        ).all()
    ids = select(ScanRow.id).where(*together, ScanRow.unit == Unit.INSTANCE.value)
    places = session.scalars(select(InstancePlaceRow).where(InstancePlaceRow.scan.in_(ids)))
    counted = {row.id for row in instances}
    newest = session.scalar(
        select(func.max(ScanRow.arrived_at)).where(
            ScanRow.site == key.site,
            ScanRow.study == key.study,
            ScanRow.unit == Unit.INSTANCE.value,
        )
    )
    if newest is None:
        raise ValueError("a group of no instances, not even withdrawn ones, is none")
    return Group(
        key=key,
        instances=tuple(instances),
        places={place.scan: place for place in places if place.scan in counted},
        current=current,
        members=frozenset(members),
        newest_of_study=newest,
        stable_since=stable_since(
            session,
            site=key.site,
            study=key.study,
            series=key.series if unit is Unit.SERIES else None,
        ),
        study_stable_since=stable_since(session, site=key.site, study=key.study, series=None),
    )


def _loose(unit: Unit) -> list[ColumnElement[bool]]:
    scan = aliased(ScanRow)
    assembled = exists().where(
        ScanMemberRow.member == ScanRow.id,
        ScanMemberRow.scan == scan.id,
        scan.unit == unit.value,
        ~_withdrawn(scan),
    )
    return [ScanRow.unit == Unit.INSTANCE.value, not_withdrawn(), ~_captured(), ~assembled]


def _captured() -> ColumnElement[bool]:
    return exists().where(
        InstancePlaceRow.scan == ScanRow.id, InstancePlaceRow.captured.is_(True)
    )


def _withdrawn(scan: type[ScanRow]) -> ColumnElement[bool]:
    return exists().where(WithdrawnScanRow.scan == scan.id)
