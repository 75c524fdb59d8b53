from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arrival_worlds import arrivals_of

from monitor.statistics.arrivals.days import SharedDays
from monitor.statistics.arrivals.model import ArrivalModel, Calendar, Sources
from monitor.statistics.arrivals.spans import Expectation

WEEKS = 2
CALENDAR = Calendar(cell=np.tile(np.arange(168), WEEKS), day=np.repeat(np.arange(14), 24))
ONE, OTHER = np.array([True, False]), np.array([False, True])


@pytest.fixture
def expectation() -> Expectation:
    rng = np.random.default_rng(5)
    rates = rng.uniform(0.1, 3.0, size=(168, 2))
    times = rng.uniform(0, 336, 900)
    return Expectation(
        model=ArrivalModel(
            sources=Sources(
                members=np.array([[1, 1], [1, 0], [0, 1]], dtype=bool),
                parents=np.array([-1, 0, 0]),
            ),
            rates=rates,
            rest_day=6,
            bursts=np.ones(3),
            spreads=np.zeros(3),
            evenness=np.ones(3),
            weeks=np.array([8.0, 8.0]),
            shared=SharedDays(spread=0.01, exceptional_share=0.04),
        ),
        arrivals=arrivals_of(CALENDAR, times, rng.integers(0, 2, 900), 2),
    )


def integral(expectation: Expectation, leaf: int, start: float, end: float) -> float:
    """Return the expected arrivals, minute by minute."""
    minutes = start + (np.arange(round((end - start) * 60)) + 0.5) / 60
    return float(expectation.model.rates[minutes.astype(int) % 168, leaf].sum() / 60)


def test_expected_arrivals_are_the_integral_of_the_rates(expectation: Expectation) -> None:
    for start, end in ((3.25, 3.75), (10.5, 33.25), (100.0, 260.5)):
        found = expectation.expected(ONE, start, end)
        assert found == pytest.approx(integral(expectation, 0, start, end), rel=1e-9)


def test_received_arrivals_are_those_of_a_plain_count(expectation: Expectation) -> None:
    times = expectation.arrivals.times[expectation.arrivals.leaf == 1]
    found = expectation.received(OTHER, 20.5, 77.0)
    assert found == ((times >= 20.5) & (times < 77.0)).sum()


def test_hours_that_are_not_watched_count_on_neither_side(expectation: Expectation) -> None:
    watched = expectation.arrivals.watched.copy()
    watched[50:60, 0] = False
    partly = Expectation(
        model=expectation.model, arrivals=replace(expectation.arrivals, watched=watched)
    )
    gone = expectation.expected(ONE, 50, 60), expectation.received(ONE, 50, 60)
    assert partly.expected(ONE, 40, 70) == pytest.approx(
        expectation.expected(ONE, 40, 70) - gone[0]
    )
    assert partly.received(ONE, 40, 70) == expectation.received(ONE, 40, 70) - gone[1]
    assert partly.expected(OTHER, 40, 70) == expectation.expected(OTHER, 40, 70)


def test_a_silence_is_cut_at_local_midnights(expectation: Expectation) -> None:
    own, (others,) = expectation.side(1), expectation.others(1)
    tally = expectation.silence(own, others, np.array([20.0, 30.0]), np.array([75.5, 31.0]))
    assert tally.expected.shape == (2, 4)
    cuts = [(20, 24), (24, 48), (48, 72), (72, 75.5)]
    for day, (start, end) in enumerate(cuts):
        assert tally.expected[0, day] == pytest.approx(integral(expectation, 0, start, end))
        since = 0 if day == 0 else start
        assert tally.others_received[0, day] == expectation.received(OTHER, since, end)
    assert tally.expected[1, 2:].tolist() == [0.0, 0.0]


def test_a_batch_at_one_minute_of_its_hour_is_missed_only_once_the_hour_is_over(
    expectation: Expectation,
) -> None:
    side = replace(expectation.side(1), evenness=0.0)
    start, end = np.array([20.25, 20.25]), np.array([22.75, 20.5])
    certain = expectation.expected(side.leaves, *side.certain(start, end))
    assert certain == pytest.approx([integral(expectation, 0, 21, 22), 0.0])
    possible = expectation.expected(side.leaves, *side.possible(start, end))
    assert possible == pytest.approx(
        [integral(expectation, 0, 20, 23), integral(expectation, 0, 20, 21)]
    )
    even = replace(side, evenness=1.0)
    for found in (even.certain(start, end), even.possible(start, end)):
        np.testing.assert_allclose(found, (start, end))


def test_without_others_a_source_s_own_morning_says_that_the_day_is_ordinary(
    expectation: Expectation,
) -> None:
    everything = expectation.side(0)
    (nobody,) = expectation.others(0)
    tally = expectation.silence(everything, nobody, np.array([34.0]), np.array([50.0]))
    for day, (start, end) in enumerate([(0, 24), (24, 34)]):
        received = expectation.received(everything.leaves, start, end)
        assert tally.others_received[0, day] == received
    assert tally.expected[0, 0] == 0.0
    assert tally.others_received[0, 2:].tolist() == [0.0]
    assert tally.others_expected[0, 2:].tolist() == [0.0]


def test_the_others_count_from_three_days_before_a_silence_and_the_source_from_its_beginning(
    expectation: Expectation,
) -> None:
    own, (others,) = expectation.side(1), expectation.others(1)
    tally = expectation.silence(own, others, np.array([135.0]), np.array([150.0]))
    cuts = [(48, 72), (72, 96), (96, 120), (120, 144), (144, 150)]
    assert tally.others_received[0].tolist() == [
        float(expectation.received(OTHER, start, end)) for start, end in cuts
    ]
    assert tally.expected[0, :3].tolist() == [0.0, 0.0, 0.0]
    assert tally.expected[0, 3:] == pytest.approx(
        [integral(expectation, 0, 135, 144), integral(expectation, 0, 144, 150)]
    )


def test_a_scanner_is_held_against_its_site_and_against_the_fleet(
    expectation: Expectation,
) -> None:
    # Three scanners; the first two are of one site.
    sources = Sources(
        members=np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=bool),
        parents=np.array([-1, 0, 0, 1, 1]),
    )
    model = replace(
        expectation.model,
        sources=sources,
        rates=np.ones((168, 3)),
        bursts=np.ones(5),
        spreads=np.zeros(5),
        evenness=np.ones(5),
        weeks=np.full(3, 8.0),
    )
    three = Expectation(model=model, arrivals=expectation.arrivals)

    def beside(source: int, without: list[bool]) -> list[list[bool]]:
        sides = three.others(source, without=np.array(without))
        return [side.leaves.tolist() for side in sides]

    nobody = [False, False, False]
    assert beside(3, nobody) == [[False, True, False], [False, True, True]]
    assert beside(3, [False, True, False]) == [[False, False, True]]
    assert beside(1, nobody) == [[False, False, True]]
    assert beside(0, nobody) == [[False, False, False]]


def test_leaves_in_an_alarm_are_left_out_of_both_sides(expectation: Expectation) -> None:
    assert expectation.side(0, without=ONE).leaves.tolist() == [False, True]
    (nobody,) = expectation.others(2, without=ONE)
    assert nobody.leaves.tolist() == [False, False]


def listed(expectation: Expectation, *days: tuple[int, int]) -> Expectation:
    """Return the same with listed days, each a leaf's."""
    holidays = np.zeros_like(expectation.arrivals.watched)
    for leaf, day in days:
        holidays[24 * day : 24 * day + 24, leaf] = True
    return replace(expectation, arrivals=replace(expectation.arrivals, holidays=holidays))


def test_on_a_listed_holiday_less_is_expected_than_on_an_ordinary_day_of_that_leaf_alone(
    expectation: Expectation,
) -> None:
    found = listed(expectation, (0, 2))
    span = (50.0, 70.0)
    assert found.expected(ONE, *span) < found.ordinary(ONE, *span)
    assert found.ordinary(ONE, *span) == expectation.expected(ONE, *span)
    assert found.expected(OTHER, *span) == expectation.expected(OTHER, *span)
    # As on the quietest day of the week, hour by hour.
    resting = sum(expectation.model.rates[6 * 24 + hour % 24, 0] for hour in range(50, 70))
    assert found.kept(ONE, *span) == pytest.approx(resting)
    assert found.expected(ONE, 80.0, 90.0) == pytest.approx(
        expectation.expected(ONE, 80.0, 90.0)
    )


def test_a_span_into_a_listed_holiday_keeps_what_lies_before_it_as_ordinary(
    expectation: Expectation,
) -> None:
    found = listed(expectation, (0, 2), (1, 2))
    start, end = np.array([30.0]), np.array([54.0])
    own, (others,) = found.side(1), found.others(1)
    tally = found.within(own, others, start, end, missing=True)
    assert tally.holidays is not None
    assert tally.holidays.tolist() == [[True]]
    assert tally.expected[0, 0] == pytest.approx(found.ordinary(ONE, 30.0, 54.0))
    assert tally.at_rest[0, 0] == pytest.approx(
        found.ordinary(ONE, 30.0, 48.0) + found.kept(ONE, 48.0, 54.0)
    )
    assert tally.others_received[0, 0] == found.received(OTHER, 30.0, 54.0)


def test_on_one_leaf_s_own_holiday_the_others_say_nothing_of_it(
    expectation: Expectation,
) -> None:
    found = listed(expectation, (0, 2))
    own, (others,) = found.side(1), found.others(1)
    tally = found.silence(own, others, np.array([20.0]), np.array([75.5]))
    plain = expectation.silence(own, others, np.array([20.0]), np.array([75.5]))
    assert tally.holidays is not None
    assert tally.holidays.tolist() == [[False, False, True, False]]
    assert tally.others_expected[0, 2] == tally.others_received[0, 2] == 0
    kept = [0, 1, 3]
    assert np.array_equal(tally.others_received[0, kept], plain.others_received[0, kept])
    assert np.array_equal(tally.expected, plain.expected)
