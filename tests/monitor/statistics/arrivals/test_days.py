from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from monitor.statistics.arrivals.counts import (
    log_at_least,
    log_at_most,
    log_none,
    log_probability,
)
from monitor.statistics.arrivals.days import AT_REST, ORDINARY, SharedDays, Tally

SHARED = SharedDays(spread=0.02, exceptional_share=0.05)


def tally(
    *,
    received: float | npt.NDArray[np.float64] = 0.0,
    expected: list[float],
    at_rest: list[float],
    others: tuple[list[float], list[float], list[float]] = ([0.0], [0.0], [0.0]),
    holidays: list[bool] | None = None,
) -> Tally:
    """Return the tally of one span; `others` are received, expected and at rest by day."""
    beside = [np.array([part], dtype=float) for part in others]
    return Tally(
        received=np.atleast_1d(np.asarray(received, dtype=float)),
        expected=np.array([expected]),
        at_rest=np.array([at_rest]),
        others_received=beside[0],
        others_expected=beside[1],
        others_at_rest=beside[2],
        burst=1.2,
        spread=0.03,
        others_burst=1.3,
        others_spread=0.01,
        holidays=None if holidays is None else np.array([holidays]),
    )


def test_points_are_weighted_so_that_an_ordinary_day_s_factor_has_its_mean_and_variance() -> (
    None
):
    usual = SHARED.kinds == ORDINARY
    weights = np.exp(SHARED.log_weights[usual])
    mean = weights @ SHARED.factors[usual]
    assert weights.sum() == pytest.approx(1.0)
    assert mean == pytest.approx(1.0, abs=0.002)
    assert weights @ (SHARED.factors[usual] - mean) ** 2 == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("listed", list(itertools.product([False, True], repeat=3)))
def test_days_in_a_row_agree_with_the_sum_over_every_path_of_kinds(
    listed: tuple[bool, ...],
) -> None:
    days = tally(
        expected=[8.0, 20.0, 5.0],
        at_rest=[2.0, 4.0, 5.0],
        others=([30.0, 9.0, 11.0], [28.0, 40.0, 12.0], [9.0, 10.0, 12.0]),
        holidays=list(listed) if any(listed) else None,
    )
    means = np.minimum(SHARED.means(days.expected, days.at_rest), days.expected[..., None])
    own = np.exp(log_none(means, days.burst, days.spread))[0]
    beside = np.exp(days.log_others(SHARED))[0]
    holiday = SHARED.holiday_points
    of_kind = np.array([holiday[SHARED.kinds == kind].sum() for kind in range(3)])
    weights = np.where(
        np.array(listed)[:, None], holiday / of_kind[SHARED.kinds], np.exp(SHARED.log_weights)
    )
    shares = [of_kind if day else SHARED.shares for day in listed]
    sums = np.zeros(2)
    for path in itertools.product(range(3), repeat=3):
        chance = shares[0][path[0]]
        for day, (before, after) in enumerate(itertools.pairwise(path), start=1):
            lasts = 0.7 if listed[day] == listed[day - 1] else 0.0
            chance *= lasts * (before == after) + (1 - lasts) * shares[day][after]
        both = alone = chance
        for day, kind in enumerate(path):
            these = SHARED.kinds == kind
            both *= (weights[day] * own[day] * beside[day])[these].sum()
            alone *= (weights[day] * beside[day])[these].sum()
        sums += (both, alone)
    assert np.exp(days.too_few(SHARED)[0]) == pytest.approx(sums[0] / sums[1], rel=1e-9)


def test_a_listed_holiday_excuses_a_source_that_has_none_beside_it_but_not_for_good() -> None:
    def p_of(listed: bool, times: float) -> float:
        one = tally(expected=[20.0 * times], at_rest=[3.0 * times], holidays=[listed])
        return float(np.exp(one.too_few(SHARED)[0]))

    assert p_of(True, 1) > 3 * p_of(False, 1)
    assert p_of(True, 20) < 1e-3


def test_on_a_listed_holiday_that_the_others_work_through_a_source_is_held_to_an_ordinary_day() -> (
    None
):
    worked, kept = (
        tally(expected=[20.0], at_rest=[3.0], others=([n], [200.0], [30.0]), holidays=[True])
        for n in (205.0, 30.0)
    )
    assert float(np.exp(worked.too_few(SHARED)[0])) < 1e-4
    assert float(np.exp(kept.too_few(SHARED)[0])) > 0.02


def test_past_holidays_tell_how_much_is_left_on_one() -> None:
    expected, at_rest = np.full(6, 200.0), np.full(6, 30.0)
    before = SHARED.on_holiday(expected, at_rest)[0]
    halved = SHARED.with_holidays(
        log_probability(100.0, SHARED.means(expected, at_rest), 1.3, 0.01)
    )
    resting = SHARED.with_holidays(
        log_probability(30.0, SHARED.means(expected, at_rest), 1.3, 0.01)
    )
    assert resting.on_holiday(expected, at_rest)[0] < before
    assert before < halved.on_holiday(expected, at_rest)[0] < 110
    assert halved.holiday_points.sum() == pytest.approx(1.0)
    # And what they were like is no longer a surprise.
    own = tally(
        expected=[20.0], at_rest=[3.0], others=([100.0], [200.0], [30.0]), holidays=[True]
    )
    assert np.all(own.too_few(halved) != own.too_few(SHARED))


def test_on_a_listed_holiday_never_more_is_expected_than_on_an_ordinary_day() -> None:
    busier_at_rest = SHARED.on_holiday(np.array([10.0, 10.0]), np.array([2.0, 60.0]))
    assert busier_at_rest[0] < 10
    assert busier_at_rest[1] == 10


def test_a_holiday_that_the_others_keep_excuses_a_source_and_an_ordinary_day_does_not() -> None:
    quiet = tally(expected=[20.0], at_rest=[3.0], others=([30.0], [200.0], [30.0]))
    busy = tally(expected=[20.0], at_rest=[3.0], others=([205.0], [200.0], [30.0]))
    assert np.exp(quiet.too_few(SHARED)[0]) > 0.02
    assert np.exp(busy.too_few(SHARED)[0]) < 1e-5


def test_another_source_s_storm_never_makes_a_quiet_source_suspicious() -> None:
    usual, storm = (
        tally(received=4, expected=[10.0], at_rest=[3.0], others=([n], [50.0], [10.0]))
        for n in (50.0, 900.0)
    )
    floor = log_at_most(4, 10.0, 1.2, 0.03)
    for one in (usual, storm):
        assert float(one.too_few(SHARED)[0]) >= float(floor) - 1e-9
    # And another source's silence makes no busy source suspicious.
    for n in (0.0, 50.0):
        busy = tally(received=30, expected=[20.0], at_rest=[9.0], others=([n], [50.0], [10.0]))
        assert (
            float(busy.too_many(SHARED)[0]) >= float(log_at_least(30, 20.0, 1.2, 0.03)) - 1e-9
        )


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("direction", ["too_few", "too_many"])
@pytest.mark.parametrize("others", [0.0, 15.0, 150.0])
def test_p_values_are_calibrated_over_ordinary_days_busy_ones_and_holidays(
    direction: str, others: float, listed: bool
) -> None:
    rng = np.random.default_rng([7, int(others)])
    draws, mean, rest = 4_000, 25.0, 6.0
    weights = SHARED.holiday_points if listed else np.exp(SHARED.log_weights)
    of_kind = np.array([weights[SHARED.kinds == one].sum() for one in range(3)])
    kind = rng.choice(3, size=draws, p=of_kind if listed else SHARED.shares)
    factor = np.empty(draws)
    for one in range(3):
        these = kind == one
        p = np.where(SHARED.kinds == one, weights, 0.0)
        factor[these] = rng.choice(SHARED.factors, size=these.sum(), p=p / p.sum())
    share = np.where(kind == AT_REST, rest / mean, 1.0)

    def counts(of: float, burst: float, spread: float) -> npt.NDArray[np.float64]:
        at = np.maximum(of * share * factor, 1e-9)
        excess = burst - 1 + spread * at
        return rng.negative_binomial(at / excess, 1 / (1 + excess)).astype(float)

    column = np.ones((draws, 1))
    drawn = Tally(
        received=counts(mean, 1.2, 0.03),
        expected=mean * column,
        at_rest=rest * column,
        others_received=counts(others, 1.3, 0.01)[:, None] if others else 0 * column,
        others_expected=others * column,
        others_at_rest=others * rest / mean * column,
        burst=1.2,
        spread=0.03,
        others_burst=1.3,
        others_spread=0.01,
        holidays=np.full((draws, 1), listed),
    )
    p_values = np.exp(getattr(drawn, direction)(SHARED))
    for level in (0.01, 0.05):
        assert (p_values <= level).sum() <= binom.ppf(0.9999, draws, level)
    # Excusing alone makes it conservative, but not blind; too many on a listed holiday are
    # more than an ordinary day brings.
    if not (listed and direction == "too_many"):
        assert (p_values <= 0.1).mean() > 0.02


def test_the_others_are_weighed_by_what_they_send() -> None:
    means = SHARED.means(np.array([200.0]), np.array([30.0]))
    posterior = SHARED.posterior(log_probability(32.0, means, 1.3, 0.01))
    assert posterior[:, SHARED.kinds == AT_REST].sum() > 0.9
