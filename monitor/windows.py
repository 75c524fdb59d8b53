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
    anchor: datetime, length: timedelta, *, until: datetime
) -> Iterator[Window]:
    """Yield the windows from `anchor` on that have ended by `until`."""
    start = anchor
    while start + length <= until:
        yield Window(start=start, end=start + length)
        start += length
