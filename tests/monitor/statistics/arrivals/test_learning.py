from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from arrival_worlds import Scanner, World, arrivals_of, hospital_group

from monitor.statistics.arrivals.learning import learn
from monitor.statistics.arrivals.model import ArrivalModel, Arrivals
from registry.errors import InsufficientDataError


def drawn(world: World, *, weeks: int = 8, seed: int = 0) -> Arrivals:
    return world.draw(weeks, np.random.default_rng(seed))


@cache
def learnt(clump: float, own: float, shared: float, seed: int) -> ArrivalModel:
    world = hospital_group(clump=clump, own_spread=own, shared_spread=shared, holidays=0.0)
    return learn(drawn(world, seed=seed), world.sources())


def test_rates_are_those_that_were_drawn_from() -> None:
    world = hospital_group(holidays=0.0)
    model = learnt(1.3, 0.03, 0.01, 1)
    true = np.stack([scanner.rates() for scanner in world.scanners], axis=1)
    weekly = true.sum(axis=0)
    # Twelve scanners: within four standard errors of their eight weeks' counts and days.
    error = np.sqrt(1.6 / (8 * weekly) + 0.04 / 56)
    assert np.all(np.abs(model.weekly / weekly - 1) < 4 * error + 0.02)
    busiest = true[:, 0]
    assert np.corrcoef(model.rates[:, 0], busiest)[0, 1] > 0.97


def test_single_arrivals_have_no_burst_and_even_days_no_spread() -> None:
    model = learnt(1.0, 0.0, 0.0, 2)
    assert np.all(model.bursts < 1.15)
    busy = model.sources.members[:, 0] | model.sources.members[:, 3]
    assert np.all(model.spreads[busy] < 0.02)
    assert model.shared.spread < 0.01


def test_clumps_and_uneven_days_are_found() -> None:
    # Geometric clumps of mean 2 have E[k^2]/E[k] = 3.
    model = learnt(2.0, 0.1, 0.02, 3)
    assert model.bursts[:3] == pytest.approx(3.0, rel=0.25)
    scanner = int(np.flatnonzero(model.sources.members[:, 0])[-1])
    assert 0.04 < model.spreads[scanner] < 0.25
    even = learnt(1.0, 0.0, 0.0, 2)
    assert model.shared.spread > even.shared.spread


def test_scans_that_come_through_the_hour_are_even_and_a_batch_is_not() -> None:
    assert np.all(learnt(1.3, 0.03, 0.01, 1).evenness > 0.8)
    world = World(scanners=[Scanner(site=0, daily=1)])
    days = np.repeat(np.arange(56) * 24 + 2.0, 50)
    nightly = arrivals_of(
        drawn(world).calendar,
        days + np.tile(np.linspace(0, 0.01, 50), 56),
        np.zeros(len(days), dtype=np.int64),
        1,
    )
    assert learn(nightly, world.sources()).evenness[0] < 0.1


def test_a_holiday_among_the_past_weeks_lowers_nobody_s_rates() -> None:
    world = hospital_group(holidays=0.0)
    arrivals = drawn(world, seed=4)
    thursday = 24 * 3
    holidays = [thursday, thursday + 168 * 4]
    kept = np.random.default_rng(0).random(len(arrivals.times)) < 0.25
    inside = np.zeros(len(arrivals.times), dtype=bool)
    for start in holidays:
        inside |= (arrivals.times >= start) & (arrivals.times < start + 24)
    chosen = ~inside | kept
    dipped = replace(arrivals, times=arrivals.times[chosen], leaf=arrivals.leaf[chosen])
    before, after = learn(arrivals, world.sources()), learn(dipped, world.sources())
    day = slice(thursday, thursday + 24)
    lowered = after.rates[day].sum() / before.rates[day].sum()
    # Two of eight days at a quarter would take 19 % from a plain mean.
    assert lowered == pytest.approx(1.0, abs=0.04)
    assert after.shared.exceptional_share > before.shared.exceptional_share


def test_listed_holidays_teach_nothing_of_ordinary_days_and_what_holidays_are_like() -> None:
    world = hospital_group(holidays=0.0)
    arrivals = drawn(world, seed=4)
    listed = np.zeros_like(arrivals.watched)
    for day in (3, 31):
        listed[24 * day : 24 * day + 24] = True
    on_listed = listed[arrivals.times.astype(int), arrivals.leaf]

    def with_share(share: float) -> ArrivalModel:
        kept = ~on_listed | (np.random.default_rng(0).random(len(on_listed)) < share)
        lived = replace(
            arrivals, times=arrivals.times[kept], leaf=arrivals.leaf[kept], holidays=listed
        )
        return learn(lived, world.sources())

    empty, half, full = (with_share(share) for share in (0.0, 0.5, 1.0))
    assert np.array_equal(empty.rates, full.rates)
    assert np.array_equal(empty.spreads, full.spreads)
    assert empty.shared.exceptional_share == full.shared.exceptional_share
    on = np.array([100.0]), np.array([30.0])
    shares = [float(model.shared.on_holiday(*on)[0]) for model in (empty, half, full)]
    assert shares == sorted(shares)
    assert shares[0] < 40
    assert shares[2] > 50


def test_the_quietest_day_of_the_week_is_found() -> None:
    world = hospital_group()
    assert learnt(1.3, 0.03, 0.01, 1).rest_day == 6
    friday = replace(
        drawn(world), calendar=replace(drawn(world).calendar, cell=_shifted(drawn(world)))
    )
    assert learn(friday, world.sources()).rest_day == 4


def _shifted(arrivals: Arrivals) -> np.ndarray:
    return (arrivals.calendar.cell - 48) % 168


def test_a_source_that_began_late_is_learnt_from_what_there_is() -> None:
    world = World(scanners=[Scanner(site=0, daily=60), Scanner(site=0, daily=40)])
    arrivals = drawn(world)
    watched = arrivals.watched.copy()
    watched[: 5 * 168, 1] = False
    kept = watched[arrivals.times.astype(int), arrivals.leaf]
    late = replace(
        arrivals, times=arrivals.times[kept], leaf=arrivals.leaf[kept], watched=watched
    )
    model = learn(late, world.sources())
    assert model.weeks.tolist() == [8.0, 3.0]
    assert model.weekly[1] == pytest.approx(world.scanners[1].rates().sum(), rel=0.12)
    one = np.array([False, True])
    assert model.burst(one) == pytest.approx(float(model.bursts[2]) * 4 / 3)


def test_an_hour_in_which_nothing_ever_came_still_expects_a_little() -> None:
    world = World(scanners=[Scanner(site=0, daily=40, kind="outpatient")])
    model = learn(drawn(world), world.sources())
    night = model.rates[3, 0]
    assert 0 < night < 0.05 * model.rates.mean()


def test_less_than_two_weeks_teach_nothing() -> None:
    world = World(scanners=[Scanner(site=0, daily=40)])
    with pytest.raises(
        InsufficientDataError, match="weeks of arrivals: need at least 2, got 1"
    ):
        learn(drawn(world, weeks=1), world.sources())
