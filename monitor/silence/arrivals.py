"""What arrived for a monitor: scans by source, on the sites' own clocks, the sources as a tree.

A source is named by its attributes, the widest first (site, scanner, station). Only scans inside
the champion's intended use count: what a router sends by mistake is refused, and no surplus.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.monitors import Monitor
from monitor.statistics.arrivals.model import CELLS, HOURS_PER_DAY, Calendar, Sources
from monitor.subgroups import Attribute, Subgroup
from monitor.tables import ScanRow
from registry import serving
from registry.bundles.card import IntendedUse, UnknownAge
from registry.bundles.preprocessing import Unit

#: A leaf's values, the widest first; None where a scan does not state one.
Key: TypeAlias = tuple[str | None, ...]

#: What stands for a value that scans do not state.
NOT_STATED = "(not stated)"
#: Views of one study come over many minutes: so far back a study is known to have begun.
_STUDY_LASTS = timedelta(days=2)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Scans in the order of their arrival."""

    #: seconds since 1970, float64 [n]
    at: npt.NDArray[np.float64]
    #: place among `keys`, int64 [n]
    key: npt.NDArray[np.int64]
    #: the first of its study from this source, bool [n]
    begins_study: npt.NDArray[np.bool_]
    keys: tuple[Key, ...]
    #: (place among `keys`, study) of the newest ones
    lately: frozenset[tuple[int, str]]
    #: the highest id among them, 0 for none
    newest_scan: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteClock:
    """Hours since a local midnight, as the sites' own clocks number them."""

    zone: ZoneInfo
    origin: datetime

    @classmethod
    def from_midnight(cls, moment: datetime, zone: ZoneInfo) -> SiteClock:
        """Return a clock that begins at the last local midnight before a moment."""
        return cls(zone=zone, origin=local_midnight(moment, zone))

    def hours(self, moment: datetime) -> float:
        """Return how many hours after the origin a moment is."""
        return (moment - self.origin) / HOUR

    def moment(self, hours: float) -> datetime:
        """Return the moment so many hours after the origin."""
        return self.origin + timedelta(seconds=round(hours * 3600))

    def calendar(self, hours: int) -> Calendar:
        """Return the first hours, each as hour of the local week and local day."""
        local = [
            (self.origin + hour * HOUR).astimezone(self.zone) for hour in range(max(1, hours))
        ]
        return Calendar(
            cell=np.array([at.weekday() * HOURS_PER_DAY + at.hour for at in local]) % CELLS,
            day=np.array([at.date().toordinal() for at in local]),
        )


def local_midnight(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the last midnight of a zone that is not after a moment, in UTC."""
    local = moment.astimezone(zone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


def read_arrived(
    session: Session,
    monitor: Monitor,
    attributes: Sequence[Attribute],
    *,
    since: datetime,
    until: datetime,
    before: Arrived | None = None,
) -> Arrived:
    """Return the scans of [since, until); with `before`, which ends there, after those."""
    columns = [getattr(ScanRow, attribute.value) for attribute in attributes]
    inside = _inside(session, monitor)
    places: dict[Key, int] = {key: n for n, key in enumerate(before.keys)} if before else {}
    begun = set(before.lately) if before else set()
    at: list[float] = []
    place: list[int] = []
    first: list[bool] = []
    lately: set[tuple[int, str]] = set()
    newest = before.newest_scan if before else 0
    known_since = (until - _STUDY_LASTS).timestamp()
    rows = session.execute(
        select(
            ScanRow.id,
            ScanRow.arrived_at,
            ScanRow.study,
            ScanRow.modality,
            ScanRow.body_part,
            ScanRow.view,
            ScanRow.age_years,
            *columns,
        )
        .where(
            ScanRow.unit == Unit.INSTANCE.value,
            ScanRow.arrived_at >= since,
            ScanRow.arrived_at < until,
        )
        .order_by(ScanRow.arrived_at, ScanRow.id)
        .execution_options(yield_per=10_000)
    )
    for scan, arrived_at, study, modality, body_part, view, age_years, *values in rows:
        newest = max(newest, scan)
        if not inside.holds((modality, body_part, view, age_years)):
            continue
        number = places.setdefault(tuple(values), len(places))
        seconds = arrived_at.timestamp()
        at.append(seconds)
        place.append(number)
        first.append((number, study) not in begun)
        begun.add((number, study))
        if seconds >= known_since:
            lately.add((number, study))
    arrays = (
        np.array(at, dtype=np.float64),
        np.array(place, dtype=np.int64),
        np.array(first, dtype=np.bool_),
    )
    if before is not None:
        earlier = (before.at, before.key, before.begins_study)
        arrays = tuple(  # type: ignore[assignment]
            np.concatenate(pair) for pair in zip(earlier, arrays, strict=True)
        )
    return Arrived(
        at=arrays[0],
        key=arrays[1],
        begins_study=arrays[2],
        keys=tuple(places),
        lately=frozenset(lately),
        newest_scan=newest,
    )


def came_late(session: Session, *, after_scan: int, before: datetime) -> int:
    """Count scans that were stored after one, but are stamped before a moment."""
    return (
        session.scalar(
            select(func.count(ScanRow.id)).where(
                ScanRow.unit == Unit.INSTANCE.value,
                ScanRow.id > after_scan,
                ScanRow.arrived_at < before,
            )
        )
        or 0
    )


def stamped_ahead(session: Session, *, now: datetime) -> int:
    """Count scans that are stamped after now."""
    ahead = select(func.count(ScanRow.id)).where(
        ScanRow.unit == Unit.INSTANCE.value, ScanRow.arrived_at >= now
    )
    return session.scalar(ahead) or 0


class _IntendedUseMemory:
    """Which combinations of attributes are inside an intended use, each asked once."""

    def __init__(self, use: IntendedUse | None) -> None:
        self._use = use
        self._known: dict[tuple[Any, ...], bool] = {}

    def holds(self, values: tuple[str, str | None, str | None, int | None]) -> bool:
        if self._use is None:
            return True
        if values not in self._known:
            modality, body_part, view, age_years = values
            refusal = self._use.refusal(
                modality=modality, body_part=body_part, view=view, age_years=age_years
            )
            self._known[values] = refusal is None
        return self._known[values]


def _inside(session: Session, monitor: Monitor) -> _IntendedUseMemory:
    champion = serving.champion(session, monitor.specification.model)
    use = champion.card.get("intended_use") if champion is not None else None
    if use is None:
        return _IntendedUseMemory(None)
    ages = use["age_years"]
    return _IntendedUseMemory(
        IntendedUse(
            modalities=tuple(use["modalities"]),
            body_parts=tuple(use["body_parts"]),
            views=tuple(use["views"]),
            age_years=None if ages is None else (ages[0], ages[1]),
            unknown_age=UnknownAge(use["unknown_age"]),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSources:
    """Sources with their names."""

    sources: Sources
    #: "attribute=value" joined by " & ", "" for all scans
    names: tuple[str, ...]
    leaves: tuple[Key, ...]

    def leaf_places(self, keys: Iterable[Key]) -> npt.NDArray[np.bool_]:
        """Return which leaves have one of these keys, bool [L]."""
        wanted = set(keys)
        return np.array([leaf in wanted for leaf in self.leaves], dtype=np.bool_)


def name_of(key: Sequence[str | None], attributes: Sequence[Attribute]) -> str:
    """Return the name of a source by its first values.

    >>> name_of(("north", None), (Attribute.SITE, Attribute.STATION))
    'site=north & station=(not stated)'
    """
    pairs = zip(attributes, key, strict=False)
    return str(Subgroup(tuple((attribute, value or NOT_STATED) for attribute, value in pairs)))


def named_sources(keys: Sequence[Key], attributes: Sequence[Attribute]) -> NamedSources:
    """Arrange leaves as a tree; of sources with the same leaves one stands for all.

    That is the narrowest, which says most, but for all scans.
    """
    leaves = tuple(sorted(keys, key=lambda key: tuple(value or "" for value in key)))
    members: list[npt.NDArray[np.bool_]] = [np.ones(len(leaves), dtype=np.bool_)]
    parents, names = [-1], [""]

    def grow(parent: int, inside: list[int], depth: int) -> None:
        if depth == len(attributes):
            return
        parts: dict[str | None, list[int]] = {}
        for leaf in inside:
            parts.setdefault(leaves[leaf][depth], []).append(leaf)
        for part in parts.values():
            source = parent
            name = name_of(leaves[part[0]][: depth + 1], attributes)
            if len(parts) > 1:
                mask = np.zeros(len(leaves), dtype=np.bool_)
                mask[part] = True
                members.append(mask)
                parents.append(parent)
                names.append(name)
                source = len(names) - 1
            elif parent != 0:
                names[parent] = name
            grow(source, part, depth + 1)

    grow(0, list(range(len(leaves))), 0)
    return NamedSources(
        sources=Sources(members=np.array(members), parents=np.array(parents)),
        names=tuple(names),
        leaves=leaves,
    )


def hours_of(start: float, end: float, limit: int) -> slice:
    """Return the whole hours that a span touches, at most so many."""
    return slice(max(0, int(np.floor(start))), max(0, min(limit, int(np.ceil(end)))))
