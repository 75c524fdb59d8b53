"""What is kept of the day of a study: nothing, another day, or its month.

PS3.15 annex E, Retain Longitudinal Temporal Information With Modified Dates
Option. Times of day are never kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from monitor.intake.pseudonyms import Naming, patient_fields, shift_days

if TYPE_CHECKING:
    from monitor.intake.reading import Instance


class StudyTime(StrEnum):
    """How much of a study's day is kept."""

    REMOVED = "removed"
    SHIFTED = "shifted"  #: moved by a number of weeks that is the patient's own
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDate:
    """What is kept of the day of one study."""

    day: date  #: of a month its first
    coarse: bool  #: only the month is known

    @property
    def text(self) -> str:
        """The month as 2024-03, a shifted day as 2024-03-17: one is never taken for the other."""
        return self.day.isoformat()[:7] if self.coarse else self.day.isoformat()

    @property
    def dicom(self) -> str:
        """As a value of VR DA, which has no form for a month (PS3.5 section 6.2)."""
        return self.day.isoformat().replace("-", "")


def study_date_of(
    instance: Instance, *, how: StudyTime, site: str, key: Naming
) -> StudyDate | None:
    """Return what is kept of an instance's Study Date; None where that is nothing.

    Days of one patient at one site are moved alike, by whole weeks, so that
    intervals and weekdays hold. No other date takes the place of one that is absent.
    """
    day = day_of(instance, "StudyDate")
    if how is StudyTime.REMOVED or day is None:
        return None
    if how is StudyTime.MONTH:
        return StudyDate(day=day.replace(day=1), coarse=True)
    days = shift_days(patient_fields(instance, site), key=key)
    try:
        return StudyDate(day=day - timedelta(days=days), coarse=False)
    except OverflowError:
        return None  # a day of the first centuries, which no study has


def months_until(study: str | None, arrived_at: datetime) -> int | None:
    """Return how many months after that of its study a scan came; None where none is known.

    A shifted day says nothing of it.

    >>> months_until("2024-11", datetime(2025, 2, 1))
    3
    """
    match = re.fullmatch(r"(\d{4})-(\d{2})", study or "")
    if match is None:
        return None
    return 12 * (arrived_at.year - int(match[1])) + arrived_at.month - int(match[2])


def day_of(instance: Instance, keyword: str) -> date | None:
    """Return a date of an instance (VR DA), or None where it is none."""
    text = instance.text(keyword).replace(".", "")  # ACR-NEMA wrote 1960.02.01
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None
