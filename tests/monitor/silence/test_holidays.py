from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from scanner_history import ScannerHistory

from monitor.monitors import apply_file, parse_monitor, require_monitor
from monitor.silence.ground import learnt_since
from monitor.silence.settings import SilenceSettings
from registry.canonical import digest_of
from registry.errors import MonitorSpecError

FILE = """
name: chest
model: pneumonia
task: pneumonia
monitoring_encoder: general@1
window_hours: 84
anchor: 2026-03-02T00:00:00Z
alpha_per_week: 0.005
subgroup_attributes: [site]
floor: 20
silence:
  holidays:
"""


def settings(*lines: str) -> SilenceSettings:
    text = FILE + "".join(f"    {line}\n" for line in lines)
    found = parse_monitor(text, source="monitor.yaml").silence
    assert found is not None
    return found


def test_days_ranges_and_sites_are_read_as_a_hospital_s_calendar_has_them() -> None:
    calendar = settings(
        "- 2026-12-25",
        "- {from: 2026-12-28, to: 2026-12-30}",
        "- {date: 2026-08-15, sites: [south, coast]}",
        "- {from: 2026-11-01, to: 2026-11-02, sites: [north]}",
    ).calendar
    assert calendar.is_listed(date(2026, 12, 25), "north")
    assert [calendar.is_listed(date(2026, 12, day), None) for day in (27, 28, 29, 30)] == [
        False,
        True,
        True,
        False,
    ]
    assert calendar.is_listed(date(2026, 8, 15), "south")
    assert not calendar.is_listed(date(2026, 8, 15), "north")
    assert calendar.coming(date(2026, 8, 15), 3) == [
        (date(2026, 8, 15), ("coast", "south")),
        (date(2026, 11, 1), ("north",)),
        (date(2026, 12, 25), None),
    ]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            ("- 2026-02-30",),
            "13: silence.holidays.0.date: 2026-02-30 is no day of the calendar",
        ),
        (("- '25.12.2026'",), "13: silence.holidays.0.date: 25.12.2026 is no day"),
        (
            ("- 2026-12-25 08:00:00",),
            "13: silence.holidays.0.date: .* is no day of the calendar",
        ),
        (("- 0226-12-25",), "13: silence.holidays.0.date: 0226-12-25 is of no year"),
        (("- true",), "13: silence.holidays.0.date: True is no day"),
        (
            ("- 2026-12-25", "- {from: 2027-01-02, to: 2026-12-31}"),
            "14: silence.holidays.1.to: 2026-12-31 is not after 2027-01-02",
        ),
        (("- {from: 2026-12-24, to: 2026-12-24}",), "13: silence.holidays.0.to: .* not after"),
        (("- {from: 2026-12-24}",), "13: silence.holidays.0.from: .* as `to`"),
        (("- {to: 2026-12-24}",), "13: silence.holidays.0.to: .* as `from`"),
        (
            ("- {from: 2026-06-01, to: 2026-09-01}",),
            "13: silence.holidays.0.to: 92 days are no",
        ),
        (("- {date: 2026-12-24, to: 2026-12-26}",), "13: silence.holidays.0: write either"),
        (("- {}",), "13: silence.holidays.0: write either"),
        (("- {day: 2026-12-24}",), "13: silence.holidays.0.day: is no key"),
        (
            ("- 2026-12-25", "- {from: 2026-12-24, to: 2026-12-27}"),
            "14: silence.holidays.1: 2026-12-25 is listed already, by holidays.0",
        ),
        (
            ("- {date: 2026-12-25, sites: [a]}", "- {date: 2026-12-25, sites: [b, a]}"),
            "14: silence.holidays.1: 2026-12-25 is listed already, by holidays.0",
        ),
        (("- {date: 2026-12-25, sites: []}",), "13: silence.holidays.0.sites: "),
        (("- {date: 2026-12-25, sites: [a, a]}",), "13: silence.holidays.0.sites: name each"),
        (("- {date: 2026-12-25, sites: [' ']}",), "13: silence.holidays.0.sites: name each"),
    ],
)
def test_a_holiday_that_cannot_be_is_refused_with_file_line_and_key(
    lines: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(MonitorSpecError, match=f"^monitor.yaml:{problem}"):
        settings(*lines)


def test_sites_of_their_own_need_sources_that_are_told_apart_by_site() -> None:
    text = FILE.replace("silence:\n", "silence:\n  attributes: [station]\n")
    with pytest.raises(
        MonitorSpecError, match=r"monitor\.yaml:14: silence\.holidays\.0\.sites"
    ):
        parse_monitor(f"{text}    - {{date: 2026-12-25, sites: [a]}}\n", source="monitor.yaml")


def test_one_day_may_be_listed_for_different_sites_by_themselves() -> None:
    found = settings("- {date: 2026-12-25, sites: [a]}", "- {date: 2026-12-25, sites: [b]}")
    assert found.calendar.is_listed(date(2026, 12, 25), "a")
    assert found.calendar.is_listed(date(2026, 12, 25), "b")


def test_holidays_are_stored_and_shown_as_they_were_written() -> None:
    found = settings("- 2026-12-25", "- {from: 2026-12-28, to: 2026-12-30, sites: [a]}")
    document = found.model_dump(mode="json")
    assert document["holidays"] == [
        "2026-12-25",
        {"from": "2026-12-28", "to": "2026-12-30", "sites": ["a"]},
    ]
    assert SilenceSettings.model_validate(document) == found


def test_a_monitor_without_holidays_has_the_digest_that_it_had_before_they_could_be_listed() -> (
    None
):
    document = SilenceSettings().model_dump(mode="json")
    assert digest_of(document) == digest_of(
        {
            "attributes": ["site", "scanner_model", "station"],
            "false_alarms_per_quarter": 1.0,
            "look_every_minutes": 15,
            "learn_weeks": 8,
            "retired_after_days": 28,
            "time_zone": "UTC",
        }
    )


def test_as_many_ordinary_days_are_learnt_from_as_without_holidays() -> None:
    now = datetime(2027, 1, 11, 9, tzinfo=UTC)
    plain = learnt_since(now, settings("- 2026-05-01"), [])
    listed = settings("- 2026-12-25", "- {from: 2026-12-28, to: 2027-01-02}")
    assert (plain - learnt_since(now, listed, [])).days == 6


def test_a_site_that_never_sent_a_scan_is_refused_with_those_that_did(
    lived: ScannerHistory,
) -> None:
    text = f"{FILE}    - {{date: 2026-12-25, sites: [north, suoth]}}\n"
    now = lived.clock.now()
    with (
        lived.database.transaction() as session,
        pytest.raises(
            MonitorSpecError,
            match=r"^monitor\.yaml:13: silence\.holidays\.0\.sites: no scan ever came from suoth; "
            "from north, south some did",
        ),
    ):
        apply_file(session, text, source="monitor.yaml", actor="test", at=now)
    with lived.database.reading() as session:
        monitor = require_monitor(session, "chest")
    assert monitor.specification.silence is not None
    assert monitor.specification.silence.holidays == ()
