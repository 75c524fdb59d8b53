from __future__ import annotations

import numpy as np
import pytest
from arrival_worlds import arrivals_of, hospital_group

from monitor.statistics.arrivals.days import SharedDays
from monitor.statistics.arrivals.model import ArrivalModel, Arrivals, Calendar, Sources
from registry.errors import BadInputError

WEEK = Calendar(cell=np.arange(168), day=np.repeat(np.arange(7), 24))


def two_sites() -> Sources:
    """All; north with two scanners; south with one."""
    return Sources(
        members=np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=bool),
        parents=np.array([-1, 0, 1, 1, 0]),
    )


def model(**changes: object) -> ArrivalModel:
    settings = {
        "sources": two_sites(),
        "rates": np.tile([2.0, 1.0, 3.0], (168, 1)),
        "rest_day": 6,
        "bursts": np.array([1.5, 1.4, 1.2, 2.0, 1.0]),
        "spreads": np.array([0.0, 0.01, 0.04, 0.02, 0.03]),
        "evenness": np.array([1.0, 0.9, 1.0, 0.5, 0.8]),
        "weeks": np.array([8.0, 8.0, 2.0]),
        "shared": SharedDays(spread=0.01, exceptional_share=0.04),
        **changes,
    }
    return ArrivalModel(**settings)  # type: ignore[arg-type]


def test_sources_know_their_level_parts_and_what_stands_beside_them() -> None:
    sources = two_sites()
    assert sources.levels.tolist() == [0, 1, 2, 2, 1]
    assert sources.children(1) == [2, 3]
    beside = [np.flatnonzero(row).tolist() for row in sources.others]
    # A scanner is held against its site; a site, or a site's only scanner, against all others.
    assert beside == [[], [2], [1], [0], [0, 1]]
    assert sources.groups.tolist() == [1, 1, 4]


def test_the_simulated_group_is_such_a_tree_too() -> None:
    sources = hospital_group().sources()
    assert sources.members.shape == (17, 12)
    assert sources.levels.tolist().count(1) == 4


@pytest.mark.parametrize(
    ("members", "parents", "problem"),
    [
        ([[1, 0]], [-1], "must hold every leaf"),
        ([[1, 1], [1, 0], [1, 0]], [-1, 2, 0], "must stand before"),
    ],
)
def test_a_tree_that_is_none_is_refused(
    members: list[list[int]], parents: list[int], problem: str
) -> None:
    with pytest.raises(BadInputError, match=problem):
        Sources(members=np.array(members, dtype=bool), parents=np.array(parents))


def test_a_calendar_finds_its_days_through_the_change_to_summer_time() -> None:
    hours = np.concatenate([np.arange(24), np.delete(np.arange(24), 2), np.arange(24)])
    calendar = Calendar(cell=hours, day=np.repeat([5, 6, 7], [24, 23, 24]))
    assert calendar.midnights.tolist() == [0, 24, 47, 71]
    assert calendar.day_of([0.0, 23.9, 24.0, 46.9, 47.0, 70.9]).tolist() == [0, 0, 1, 1, 2, 2]


def test_two_weeks_are_two_weeks_through_the_change_to_summer_time_and_back() -> None:
    for hours_of_sunday in (23, 24, 25):
        day = np.repeat(np.arange(14), [24] * 6 + [hours_of_sunday] + [24] * 7)
        calendar = Calendar(cell=np.zeros_like(day), day=day)
        watched = np.ones((len(day), 2), dtype=bool)
        watched[day < 7, 1] = False
        assert calendar.weeks(watched) == pytest.approx([2.0, 1.0])


def test_impossible_hours_and_arrivals_are_refused() -> None:
    with pytest.raises(BadInputError, match="between 0 and 167"):
        Calendar(cell=np.array([168]), day=np.array([0]))
    watched = np.ones((168, 1), dtype=bool)
    for times, problem in (([2.0, 1.0], "order"), ([168.0], "outside"), ([-1.0], "outside")):
        with pytest.raises(BadInputError, match=problem):
            Arrivals(
                calendar=WEEK,
                times=np.array(times),
                leaf=np.zeros(len(times), dtype=np.int64),
                watched=watched,
            )


def test_counts_by_hour_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    times, leaf = rng.uniform(0, 168, 500), rng.integers(0, 3, 500)
    arrivals = arrivals_of(WEEK, times, leaf, 3)
    expected = np.zeros((168, 3))
    for at, of in zip(times, leaf, strict=True):
        expected[int(at), of] += 1
    np.testing.assert_array_equal(arrivals.counts, expected)
    only = arrivals.of(np.array([False, True, False]))
    np.testing.assert_array_equal(only, np.sort(times[leaf == 1]))


def test_a_day_at_rest_is_the_quietest_day_for_every_source() -> None:
    rates = np.ones((168, 3))
    rates[6 * 24 :, 0] = 0.25
    hourly = model(rates=rates).hourly(WEEK, at_rest=True)
    assert hourly[:, 0].tolist() == [0.25] * 168
    assert hourly[:, 1].tolist() == [1.0] * 168


def test_a_whole_source_has_its_own_variance_and_other_leaves_theirs_by_share() -> None:
    of = model()
    north = np.array([True, True, False])
    assert of.spread(north, 1) == 0.01
    assert of.spread(north) == pytest.approx((2 / 3) ** 2 * 0.04 + (1 / 3) ** 2 * 0.02)
    # What two scanners were learnt from for eight weeks adds an eighth.
    assert of.burst(north, 1) == pytest.approx(1.4 * 1.125)
    assert of.burst(north) == pytest.approx((2 / 3 * 1.2 + 1 / 3 * 2.0) * 1.125)
    assert of.burst(np.array([False, False, True])) == pytest.approx(1.5)
    singles = of.clumps_a_week(np.array([False, False, True]))
    assert singles == pytest.approx(3 * 168)
    assert of.clumps_a_week(np.array([False, True, False])) == pytest.approx(168 * np.log(2))
