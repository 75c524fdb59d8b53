from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from scanner_history import NORTH_A, NORTH_B, START, ScannerHistory
from sqlalchemy import update

from monitor.monitors import require_monitor
from monitor.silence.arrivals import (
    Arrived,
    SiteClock,
    came_late,
    local_midnight,
    named_sources,
    read_arrived,
    stamped_ahead,
)
from monitor.subgroups import Attribute
from registry.database import Database
from registry.versions import VersionRow

NESTED = (Attribute.SITE, Attribute.SCANNER_MODEL, Attribute.STATION)
BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


def read(history: ScannerHistory, until: datetime, before: Arrived | None = None) -> Arrived:
    with history.database.reading() as session:
        return read_arrived(
            session,
            require_monitor(session, "chest"),
            NESTED,
            since=START if before is None else START + timedelta(days=1),
            until=until,
            before=before,
        )


@pytest.fixture
def history(database: Database) -> ScannerHistory:
    return ScannerHistory(database)


def test_scans_come_in_order_by_source_and_the_first_of_a_study_is_known(
    history: ScannerHistory,
) -> None:
    history.receive(NORTH_B, [START + 3 * MINUTE])
    history.receive(NORTH_A, [START + 2 * MINUTE, START + MINUTE], study="one")
    arrived = read(history, START + timedelta(hours=1))
    assert [arrived.keys[place][-1] for place in arrived.key] == ["a1", "a1", "b2"]
    assert arrived.begins_study.tolist() == [True, False, True]
    assert arrived.newest_scan == 3


def test_reading_on_comes_to_the_same_as_reading_all_at_once(history: ScannerHistory) -> None:
    midnight = START + timedelta(days=1)
    for number, station in enumerate((NORTH_A, NORTH_B, NORTH_A, NORTH_A)):
        at = midnight + (number - 2) * 5 * MINUTE
        history.receive(station, [at, at + MINUTE], study=f"study {number // 2} of {station}")
    whole = read(history, midnight + timedelta(hours=1))
    parts = read(history, midnight + timedelta(hours=1), read(history, midnight))
    for name in ("at", "key", "begins_study"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert (whole.keys, whole.newest_scan) == (parts.keys, parts.newest_scan)


def test_scans_outside_the_champion_s_intended_use_do_not_count(
    history: ScannerHistory,
) -> None:
    history.receive(NORTH_A, [START, START + MINUTE])
    use = {
        "modalities": ["CT"],
        "body_parts": [],
        "views": [],
        "age_years": None,
        "unknown_age": "accept",
    }
    with history.database.transaction() as session:
        session.execute(
            update(VersionRow)
            .where(VersionRow.model == "pneumonia")
            .values(card={"training_data": [], "intended_use": use})
        )
    assert len(read(history, START + timedelta(hours=1)).at) == 0


def test_late_scans_and_those_from_the_future_are_counted(history: ScannerHistory) -> None:
    history.receive(NORTH_A, [START + timedelta(hours=9)])
    history.receive(NORTH_A, [START, START + timedelta(hours=30)])
    with history.database.reading() as session:
        late = came_late(session, after_scan=1, before=START + timedelta(hours=1))
        ahead = stamped_ahead(session, now=START + timedelta(hours=10))
    assert (late, ahead) == (1, 1)


def test_sources_are_named_by_the_narrowest_name_of_the_same_scans() -> None:
    keys = [
        ("north", "DRX", "a1"),
        ("north", "DRX", "b2"),
        ("south", "DX-D", "c3"),
        ("west", None, None),
    ]
    named = named_sources(keys, NESTED)
    assert named.names == (
        "",
        "site=north & scanner_model=DRX",
        "site=north & scanner_model=DRX & station=a1",
        "site=north & scanner_model=DRX & station=b2",
        "site=south & scanner_model=DX-D & station=c3",
        "site=west & scanner_model=(not stated) & station=(not stated)",
    )
    assert named.sources.parents.tolist() == [-1, 0, 1, 1, 0, 0]
    assert named.leaf_places([("south", "DX-D", "c3")]).sum() == 1


def test_one_source_alone_is_all_of_them() -> None:
    named = named_sources([("north", "DRX", "a1")], NESTED)
    assert named.names == ("",)


def test_the_sites_clock_runs_through_summer_time() -> None:
    noon = datetime(2026, 3, 28, 11, tzinfo=UTC)  # the clocks go forward that night
    clock = SiteClock.from_midnight(noon, BERLIN)
    assert clock.origin == datetime(2026, 3, 27, 23, tzinfo=UTC)
    calendar = clock.calendar(72)
    assert calendar.midnights.tolist() == [0, 24, 47, 71, 72]
    assert calendar.cell[[0, 24, 25, 26, 47]].tolist() == [120, 144, 145, 147, 0]
    assert clock.moment(clock.hours(noon)) == noon


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "UTC", "Pacific/Apia"])
def test_a_local_midnight_is_one_in_its_zone_and_not_after_the_moment(zone: str) -> None:
    moment = datetime(2026, 6, 3, 14, 20, tzinfo=UTC)
    found = local_midnight(moment, ZoneInfo(zone))
    assert found <= moment < found + timedelta(days=1)
    assert found.astimezone(ZoneInfo(zone)).time() == datetime.min.time()
