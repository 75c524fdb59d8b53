"""Views whose arithmetic or layout is worth a look of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from believable_home import ANCHOR
from believable_verdicts import subgroup_verdict
from hypothesis import given
from hypothesis import strategies as some

from api.pages import wording
from api.pages.lineage_graph import _places
from api.pages.sparklines import sparkline
from api.pages.standing import window_end
from api.pages.subgroup_map import _cell
from monitor.monitors import Monitor, MonitorSpecification
from monitor.tables import VerdictRow
from registry.versions import VersionRow


def version(identifier: int, base: int | None) -> VersionRow:
    return VersionRow(id=identifier, base=base)


def test_a_chain_of_versions_stays_on_one_line() -> None:
    assert _places([version(1, None), version(2, 1), version(3, 2)]) == {
        1: (0, 0),
        2: (1, 0),
        3: (2, 0),
    }


@given(some.lists(some.floats(min_value=0, max_value=0.999), max_size=30))
def test_no_two_versions_stand_on_one_place_and_each_right_of_its_base(
    draws: list[float],
) -> None:
    # Version n derives from nothing (0), or from one of those before it (1 to n - 1).
    versions = [
        version(number, int(draw * number) or None)
        for number, draw in enumerate(draws, start=1)
    ]
    places = _places(versions)
    assert len(places) == len(set(places.values())) == len(versions)
    for row in versions:
        column = places[row.base][0] + 1 if row.base is not None else 0
        assert places[row.id][0] == column


def test_without_a_window_there_is_no_sparkline() -> None:
    assert sparkline([]) is None


def monitor() -> Monitor:
    specification = MonitorSpecification(
        name="chest",
        model="pneumonia",
        task="pneumonia",
        monitoring_encoder="general@1",
        window_hours=84,
        anchor=ANCHOR,
        alpha_per_week=0.005,
        subgroup_attributes=[],
        floor=40,
    )
    return Monitor(name="chest", specification=specification, digest="", applied_at=ANCHOR)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (ANCHOR - timedelta(days=3), ANCHOR + timedelta(hours=84)),
        (ANCHOR, ANCHOR + timedelta(hours=84)),
        (ANCHOR + timedelta(hours=83), ANCHOR + timedelta(hours=84)),
        (ANCHOR + timedelta(hours=84), ANCHOR + timedelta(hours=168)),
    ],
)
def test_a_window_ends_after_now_and_is_half_open(now: datetime, end: datetime) -> None:
    assert window_end(monitor(), now) == end


@given(some.floats(min_value=1e-12, max_value=1.0))
def test_a_p_value_is_never_written_as_zero(value: float) -> None:
    text = wording.p_value(value)
    assert float(text.removeprefix("< ")) > 0


@given(some.lists(some.floats(min_value=0.0001, max_value=1.0), min_size=2, max_size=8))
def test_p_values_keep_their_order_in_words(values: list[float]) -> None:
    words = [float(wording.p_value(value)) for value in sorted(values)]
    assert all(first <= second for first, second in pairwise(words))


def test_a_span_of_one_day_is_that_day() -> None:
    start = datetime(2026, 9, 3, tzinfo=UTC)
    assert wording.span(start, start + timedelta(days=1)) == "3 Sep 2026"


def test_a_span_over_new_year_names_both_years() -> None:
    text = wording.span(
        datetime(2026, 12, 31, 12, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)
    )
    assert text == "31 Dec 2026, 12:00 – 4 Jan 2027, 00:00 UTC"
    whole = wording.span(datetime(2026, 12, 28, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC))
    assert whole == "28 Dec 2026 – 3 Jan 2027"


@pytest.mark.parametrize("adjusted", [0.0004, 0.01, 0.03, 0.4])
def test_the_map_marks_as_moved_what_an_alarm_takes_for_moved(adjusted: float) -> None:
    part = subgroup_verdict("site=north", range(60), adjusted)
    row = VerdictRow(
        effect=0.4, p_value=0.0002, scans=60, detail={"adjusted": part.adjusted_p_value}
    )
    cell = _cell(row, 1.0)
    assert cell is not None
    assert cell.moved is part.moved
