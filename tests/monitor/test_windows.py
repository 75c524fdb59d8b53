from __future__ import annotations

from datetime import UTC, datetime, timedelta

from monitor.windows import Window, complete_windows

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def test_windows_lie_end_to_end_and_have_ended() -> None:
    until = ANCHOR + 2.5 * DAY
    assert list(complete_windows(ANCHOR, DAY, until=until)) == [
        Window(start=ANCHOR, end=ANCHOR + DAY),
        Window(start=ANCHOR + DAY, end=ANCHOR + 2 * DAY),
    ]
    assert list(complete_windows(ANCHOR, DAY, until=ANCHOR - DAY)) == []


def test_a_window_that_ended_just_then_is_left_out() -> None:
    found = complete_windows(ANCHOR, DAY, until=ANCHOR + 4 * DAY, ended_after=ANCHOR + 2 * DAY)
    assert [window.start for window in found] == [ANCHOR + 2 * DAY, ANCHOR + 3 * DAY]
    found = complete_windows(ANCHOR, DAY, until=ANCHOR + DAY, ended_after=ANCHOR - 9 * DAY)
    assert [window.start for window in found] == [ANCHOR]


def test_a_window_longer_than_dates_reach_never_ends() -> None:
    forever = timedelta(hours=1e9)
    assert list(complete_windows(ANCHOR, forever, until=ANCHOR + DAY)) == []
    last = datetime(9999, 12, 31, tzinfo=UTC)
    assert list(complete_windows(last, 4 * DAY, until=ANCHOR)) == []


def test_years_of_short_windows_are_not_walked_through() -> None:
    long_ago = datetime(1, 1, 1, tzinfo=UTC)
    short = timedelta(microseconds=1000)
    found = complete_windows(long_ago, short, until=ANCHOR, ended_after=ANCHOR - 2 * short)
    assert len(list(found)) == 2
