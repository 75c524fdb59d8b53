"""Which scans count, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists
from sqlalchemy.orm import Session

from monitor.assembling.tables import WithdrawnScanRow
from monitor.monitors import Monitor, all_monitors
from monitor.tables import ScanRow
from registry import serving
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading, SeriesChoice
from registry.version_units import reading_of, unit_of
from registry.versions import VersionRow, find


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """When what comes of one unit is whole, by all bundles that read it."""

    settle_seconds: int
    longest_wait_hours: float
    #: series settle with their study, since one of them is to be chosen
    by_study: bool


def not_withdrawn() -> ColumnElement[bool]:
    """Return the condition that a scan was neither superseded nor rejected."""
    return ~exists().where(WithdrawnScanRow.scan == ScanRow.id)


def read_as(unit: Unit) -> ColumnElement[bool]:
    """Return the condition that a scan is of a unit, and counts."""
    return and_(ScanRow.unit == unit.value, not_withdrawn())


def unit_watched(session: Session, monitor: Monitor) -> Unit:
    """Return the unit whose scans a monitor counts: that of its monitoring encoder."""
    return unit_of(find(session, monitor.specification.monitoring_encoder))


def deciding_version(session: Session, monitor: Monitor) -> VersionRow:
    """Return the version whose selection counts: the champion, before it the encoder."""
    champion = serving.champion(session, monitor.specification.model)
    return champion or find(session, monitor.specification.monitoring_encoder)


def settlings(session: Session) -> dict[Unit, Settling]:
    """Return the units that monitored bundles read beside instances, and when these settle.

    What several read is assembled once: it waits for the most patient of them.
    """
    declared: dict[Unit, list[Reading]] = {}
    for monitor in all_monitors(session):
        champion = serving.champion(session, monitor.specification.model)
        fixed = find(session, monitor.specification.monitoring_encoder)
        for version in (fixed, champion):
            if version is None or (reading := reading_of(version)) is None:
                continue
            declared.setdefault(unit_of(version), []).append(reading)
    return {
        unit: Settling(
            settle_seconds=max(one.settle_seconds for one in readings),
            longest_wait_hours=max(one.longest_wait_hours for one in readings),
            by_study=unit is Unit.SERIES
            and any(one.select.series is SeriesChoice.LARGEST for one in readings),
        )
        for unit, readings in declared.items()
    }
