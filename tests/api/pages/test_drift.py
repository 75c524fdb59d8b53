"""Episodes as bands of the drift chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from api.pages.drift import _bands
from monitor.tables import EpisodeRow

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
LAST = FIRST + timedelta(days=30)


def episode(number: int, *, day: int, until: int | None = None) -> EpisodeRow:
    return EpisodeRow(
        id=number,
        cause="acquisition",
        state="open" if until is None else "closed",
        onset=FIRST + timedelta(days=day),
        closed_at=None if until is None else FIRST + timedelta(days=until),
    )


def bands(*episodes: EpisodeRow) -> list[Any]:
    return [
        (band["label"], band["start"][:10], band["end"][:10], band["open"])  # type: ignore[index, call-overload]
        for band in _bands(episodes, FIRST, LAST)
    ]


def test_episodes_that_follow_each_other_have_a_band_each() -> None:
    closed, after = episode(1, day=2, until=9), episode(2, day=9)
    assert bands(after, closed) == [
        ("episode 1 · acquisition, closed", "2026-03-04", "2026-03-11", False),
        ("episode 2 · acquisition", "2026-03-11", "2026-04-01", True),
    ]


def test_more_open_episodes_than_can_be_read_are_one_band_beside_those_that_ended() -> None:
    closed = episode(1, day=-3, until=20)
    many = [episode(number, day=12 - number) for number in range(2, 8)]
    assert bands(closed, *many) == [
        ("episode 1 · acquisition, closed", "2026-03-02", "2026-03-22", False),
        ("6 episodes, open", "2026-03-07", "2026-04-01", True),
    ]
    assert len(bands(*many[:2])) == 2
