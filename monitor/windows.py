"""Windows: half-open spans of arrival time, laid end to end from a monitor's anchor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open span of arrival time, [start, end).

    Raises
    ------
    ValueError
        If a bound lacks a time zone, or the span is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise ValueError("window bounds must carry a time zone")
        if self.start >= self.end:
            raise ValueError(f"empty window: {self.start} >= {self.end}")

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


def complete_windows(
    anchor: datetime,
    length: timedelta,
    *,
    until: datetime,
    ended_after: datetime | None = None,
) -> Iterator[Window]:
    """Yield the windows from `anchor` on that have ended by `until`, and after `ended_after`.

    They are counted, not walked to: a monitor has years of short windows behind it, and a
    window may be longer than dates reach.
    """
    first = 0 if ended_after is None else max(0, (ended_after - anchor) // length)
    for number in range(first, (until - anchor) // length):
        start = anchor + number * length
        yield Window(start=start, end=start + length)
