from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from monitor.labelling.signing import (
    FIRST_SCANS,
    USUAL_DELAY,
    borne_out,
    signed_at_earliest,
)

ARRIVED = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Scan:
    study_date: str | None = None
    arrived_at: datetime = ARRIVED


@pytest.mark.parametrize(
    ("study_date", "earliest"),
    [
        (None, FIRST_SCANS),
        # A month begins somewhere before it does in UTC.
        ("2024-11", datetime(2024, 10, 31, tzinfo=UTC)),
        # A moved day lies a week before the true one, or more.
        ("2019-05-12", datetime(2019, 5, 18, tzinfo=UTC)),
        # Days of clocks that were wrong, and what is no day, bound nothing.
        ("2026-04", FIRST_SCANS),
        ("2026-02-28", FIRST_SCANS),
        ("2024-13", FIRST_SCANS),
        ("0001-01", FIRST_SCANS),
        ("9999-12-31", FIRST_SCANS),
        ("1985-06", FIRST_SCANS),
    ],
)
def test_a_label_cannot_be_signed_before_what_is_kept_of_its_study(
    study_date: str | None, earliest: datetime
) -> None:
    assert signed_at_earliest(Scan(study_date)) == earliest


@pytest.mark.parametrize("study_date", [None, "2019-05-12", "2026-04"])
def test_without_a_month_half_a_year_before_the_arrival_is_borne_out(
    study_date: str | None,
) -> None:
    scan = Scan(study_date)
    assert borne_out(ARRIVED - USUAL_DELAY, scan)
    assert not borne_out(ARRIVED - USUAL_DELAY - HOUR, scan)
    assert not borne_out(ARRIVED - timedelta(days=365), scan)
    assert borne_out(ARRIVED + timedelta(days=1000), scan)


def test_the_month_of_a_study_bears_out_what_an_archive_sends_late() -> None:
    scan = Scan("2019-05")
    assert borne_out(datetime(2019, 5, 3, tzinfo=UTC), scan)
    assert not borne_out(datetime(2019, 4, 3, tzinfo=UTC), scan)
