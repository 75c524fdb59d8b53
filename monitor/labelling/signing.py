"""When a label can have been signed: not before there was a scan to read.

Of the day of a study nothing is kept, its month, or a day that was moved back by one to 520 weeks
(`monitor.intake.study_time`). A month bounds the time of signing, and so does a moved day, which
lies a week or more before the true one. Where neither is kept there is the arrival, and scans may
come long after they were read.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

#: No radiograph that is read as DICOM is older; a label from before is a mistyped year.
FIRST_SCANS = datetime(1990, 1, 1, tzinfo=UTC)
#: How long before its arrival a scan may have been read without anything to bear that out. Less
#: than a year, so that a label with last year's date is not taken at its word.
USUAL_DELAY = timedelta(days=183)
#: Days are kept without a zone: somewhere each begins half a day earlier than in UTC.
_ZONES = timedelta(days=1)
_LEAST_SHIFT = timedelta(weeks=1)


class Arrived(Protocol):
    """A scan, by what is known of when it was made."""

    @property
    def study_date(self) -> str | None: ...

    @property
    def arrived_at(self) -> datetime: ...


def signed_at_earliest(scan: Arrived) -> datetime:
    """Return the time before which no label of a scan can have been signed."""
    return max(_made_at_earliest(scan) or FIRST_SCANS, FIRST_SCANS)


def borne_out(signed_at: datetime, scan: Arrived) -> bool:
    """Say whether the scan may be taken to have been there when its label was signed.

    The month of its study says so, or that it arrived within half a year: a moved day is a bound
    and no more.
    """
    month_known = len(scan.study_date or "") == len("2024-03")
    if month_known and (made := _made_at_earliest(scan)) is not None:
        return signed_at >= made
    return signed_at >= scan.arrived_at - USUAL_DELAY


def _made_at_earliest(scan: Arrived) -> datetime | None:
    """Return the bound that the kept day is; None where there is none, or no such day can be."""
    match = re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", scan.study_date or "")
    if match is None:
        return None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3] or 1))
        made = datetime(day.year, day.month, day.day, tzinfo=UTC) - _ZONES
        if match[3] is not None:
            made += _LEAST_SHIFT
    except (ValueError, OverflowError):
        return None
    # A study from after its arrival has the date of a clock that was wrong.
    return made if made <= scan.arrived_at else None
