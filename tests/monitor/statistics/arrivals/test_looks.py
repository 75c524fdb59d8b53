from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from arrival_worlds import Scanner, World, arrivals_of, small_group

from monitor.statistics.arrivals.looks import ArrivalWatch, Finding, Look
from monitor.statistics.arrivals.model import CELLS, Arrivals, Calendar
from monitor.statistics.arrivals.questions import AlarmBudget, Question

#: All; north (two scanners, one of them small); south (two).
WORLD = World(
    scanners=[
        Scanner(site=0, daily=60),
        Scanner(site=0, daily=15),
        Scanner(site=1, daily=50),
        Scanner(site=1, daily=40),
    ],
    holidays=0.0,
)
ALL, NORTH, NORTH_LARGE, NORTH_SMALL, SOUTH = 0, 1, 2, 3, 4
LEARNT = 4 * CELLS
#: Wednesday of the fifth week, at eleven.
NOW = LEARNT + 2 * 24 + 11.0
NOBODY = np.zeros(4, dtype=bool)


@cache
def life() -> Arrivals:
    return WORLD.draw(6, np.random.default_rng(8))


@cache
def watch() -> ArrivalWatch:
    lived = life()
    inside = lived.times < LEARNT
    past = Arrivals(
        calendar=Calendar(cell=lived.calendar.cell[:LEARNT], day=lived.calendar.day[:LEARNT]),
        times=lived.times[inside],
        leaf=lived.leaf[inside],
        watched=lived.watched[:LEARNT],
    )
    return ArrivalWatch.learn(
        past, past, WORLD.sources(), AlarmBudget(false_alarms=1, looks_an_hour=4)
    )


def look(arrivals: Arrivals, now: float = NOW) -> Look:
    return watch().at(now, arrivals, arrivals)


def silenced(leaves: list[int], since: float, until: float = 1e9) -> Arrivals:
    """Return life, in which some scanners sent nothing for a while."""
    lived = life()
    gone = np.isin(lived.leaf, leaves) & (lived.times >= since) & (lived.times < until)
    return replace(lived, times=lived.times[~gone], leaf=lived.leaf[~gone])


def stormed(leaf: int, count: int, at: float) -> Arrivals:
    """Return life, in which a scanner sent so many more within half an hour."""
    lived = life()
    extra = at + np.random.default_rng(1).random(count) / 2
    return arrivals_of(
        lived.calendar,
        np.append(lived.times, extra),
        np.append(lived.leaf, np.full(count, leaf)),
        4,
    )


def until(arrivals: Arrivals, now: float) -> Arrivals:
    """Return what came before now."""
    before = arrivals.times < now
    return replace(arrivals, times=arrivals.times[before], leaf=arrivals.leaf[before])


def promised(
    arrivals: Arrivals, source: int, now: float, in_alarm: npt.NDArray[np.bool_] = NOBODY
) -> float:
    """Return after how many hours a stop now is said to show, by what came before."""
    return look(until(arrivals, now), now).hours_until_noticed(source, in_alarm=in_alarm)


def found(arrivals: Arrivals, now: float = NOW) -> list[tuple[int, Question]]:
    return [(one.source, one.question) for one in look(arrivals, now).findings(in_alarm=NOBODY)]


def first_alarm(arrivals: Arrivals, start: float, end: float) -> tuple[float, Finding]:
    for now in np.arange(start, end, 0.25):
        findings = look(arrivals, now).findings(
            in_alarm=NOBODY, on_the_hour=float(now).is_integer()
        )
        if findings:
            return float(now), findings[0]
    raise AssertionError("no alarm")


def test_an_ordinary_week_raises_no_alarm() -> None:
    for now in np.arange(LEARNT + 1.0, LEARNT + 168.0, 3.0):
        assert found(life(), now) == []


def test_a_dead_scanner_is_named_alone_with_its_last_scan_and_what_was_expected() -> None:
    death = NOW - 10  # one in the night
    _, alarm = first_alarm(silenced([0], death), NOW - 4, NOW + 6)
    assert alarm.source == NORTH_LARGE
    assert alarm.question is Question.SILENT
    times = life().times[life().leaf == 0]
    assert alarm.since == times[times < death][-1]
    assert alarm.received == 0
    assert alarm.p_value <= alarm.alpha
    assert 8 < alarm.expected < 35
    assert alarm.others_received > 0


def test_the_night_alone_proves_nothing() -> None:
    assert found(silenced([0], NOW - 10), NOW - 6) == []


def test_a_dead_site_is_one_alarm_of_the_site() -> None:
    _, alarm = first_alarm(silenced([2, 3], NOW - 10), NOW - 4, NOW + 6)
    assert alarm.source == SOUTH
    assert alarm.leaves.tolist() == [False, False, True, True]


def test_a_dead_fleet_is_one_alarm_of_all() -> None:
    everything = silenced([0, 1, 2, 3], NOW - 3)
    now, alarm = first_alarm(everything, NOW - 3, NOW + 6)
    assert alarm.source == ALL
    later = look(everything, now + 2).findings(in_alarm=alarm.leaves)
    assert later == []


def test_a_site_whose_small_scanner_still_sends_is_not_called_silent() -> None:
    # The small one happens to send nothing for a while, too, which is no news.
    _, alarm = first_alarm(silenced([0], NOW - 10), NOW - 4, NOW + 6)
    assert alarm.source != NORTH


def test_a_day_on_which_everybody_dips_as_on_sundays_raises_no_alarm() -> None:
    lived = life()
    day = (lived.times >= LEARNT + 48) & (lived.times < LEARNT + 72)
    kept = ~day | (np.random.default_rng(3).random(len(lived.times)) < 0.3)
    holiday = replace(lived, times=lived.times[kept], leaf=lived.leaf[kept])
    for now in np.arange(LEARNT + 49.0, LEARNT + 76.0):
        assert found(holiday, now) == [], now


def test_in_a_week_of_vacation_the_fleet_excuses_the_last_scanner_that_its_site_has_left() -> (
    None
):
    lived = life()
    vacation = lived.times >= LEARNT
    third = ~vacation | (np.random.default_rng(3).random(len(lived.times)) < 1 / 3)
    silent = (lived.leaf == 1) & (lived.times >= NOW - 30)
    kept = third & ~silent
    quiet = replace(lived, times=lived.times[kept], leaf=lived.leaf[kept])
    usual = replace(lived, times=lived.times[~silent], leaf=lived.leaf[~silent])
    in_alarm = np.array([True, False, False, False])
    for now in np.arange(NOW - 12, NOW - 2, 0.5):
        assert look(quiet, float(now)).findings(in_alarm=in_alarm) == []
    (finding,) = look(usual, NOW - 2).findings(in_alarm=in_alarm)
    assert finding.leaves.tolist() == [False, True, False, False]


def on_listed_wednesday(arrivals: Arrivals, leaves: tuple[int, ...] = (0, 1, 2, 3)) -> Arrivals:
    """Return arrivals whose Wednesday is listed as a holiday, on which a third is sent."""
    day = (arrivals.times >= LEARNT + 48) & (arrivals.times < LEARNT + 72)
    day &= np.isin(arrivals.leaf, leaves)
    kept = ~day | (np.random.default_rng(3).random(len(arrivals.times)) < 1 / 3)
    holidays = np.zeros_like(arrivals.watched)
    holidays[LEARNT + 48 : LEARNT + 72, list(leaves)] = True
    return replace(
        arrivals, times=arrivals.times[kept], leaf=arrivals.leaf[kept], holidays=holidays
    )


def test_a_dead_scanner_is_noticed_on_a_listed_holiday_too_only_later() -> None:
    death = LEARNT + 48.0
    usual, _ = first_alarm(silenced([0], death), death, death + 48)
    seen, alarm = first_alarm(on_listed_wednesday(silenced([0], death)), death, death + 48)
    assert alarm.leaves.tolist() == [True, False, False, False]
    assert usual < seen < death + 24
    said = promised(on_listed_wednesday(life()), NORTH_LARGE, death)
    assert said > promised(life(), NORTH_LARGE, death)
    assert seen - death <= said + 1
    # What was expected is what such a day brings.
    assert alarm.expected < 0.7 * float(watch().studies.rates[48:72, 0].sum())


def test_a_listed_holiday_of_one_site_is_no_alarm_while_the_others_work() -> None:
    lived = life()
    shut = np.isin(lived.leaf, [2, 3]) & (lived.times >= LEARNT + 48)
    shut &= (lived.times < LEARNT + 72) & (np.random.default_rng(3).random(len(shut)) < 0.85)
    quiet = replace(lived, times=lived.times[~shut], leaf=lived.leaf[~shut])
    holidays = np.zeros_like(lived.watched)
    holidays[LEARNT + 48 : LEARNT + 72, 2:] = True
    hours = np.arange(LEARNT + 49.0, LEARNT + 76.0)
    assert any(found(quiet, now) for now in hours)
    assert not any(found(replace(quiet, holidays=holidays), now) for now in hours)


def test_a_listed_holiday_on_which_everybody_works_is_no_surplus() -> None:
    lived = life()
    holidays = np.zeros_like(lived.watched)
    holidays[LEARNT + 48 : LEARNT + 72] = True
    for now in np.arange(LEARNT + 49.0, LEARNT + 76.0):
        assert found(replace(lived, holidays=holidays), now) == [], now


def test_a_storm_is_one_alarm_and_makes_no_other_scanner_silent() -> None:
    findings = look(stormed(1, 120, NOW - 0.6)).findings(in_alarm=NOBODY)
    assert [(one.source, one.question) for one in findings] == [(NORTH_SMALL, Question.SURGE)]
    assert findings[0].received > 100


def test_a_handful_in_a_quiet_hour_is_no_storm() -> None:
    assert found(stormed(1, 8, LEARNT + 2 * 24 + 3.2), LEARNT + 2 * 24 + 4.0) == []


def test_a_source_in_an_alarm_is_neither_judged_nor_held_against_others() -> None:
    dead = silenced([0], NOW - 10)
    in_alarm = np.array([True, False, False, False])
    assert look(dead, NOW + 3).findings(in_alarm=in_alarm) == []


def test_half_of_a_scanner_s_scans_missing_for_a_day_is_found_and_dated() -> None:
    lived = life()
    start = LEARNT + 48.0
    lost = (lived.leaf == 0) & (lived.times >= start)
    lost &= np.random.default_rng(5).random(len(lost)) < 0.85
    thinned = replace(lived, times=lived.times[~lost], leaf=lived.leaf[~lost])
    _, alarm = first_alarm(thinned, start, start + 24)
    assert alarm.source == NORTH_LARGE
    assert abs(alarm.since - start) < 14


def test_a_batch_that_comes_every_night_at_the_same_minute_raises_no_alarm_by_day() -> None:
    lived = life()
    nights = np.repeat(np.arange(42) * 24 + 2.0, 60)
    batches = arrivals_of(
        lived.calendar,
        nights + np.tile(np.linspace(0, 0.02, 60), 42),
        np.zeros(len(nights), dtype=np.int64),
        1,
    )
    alone = World(scanners=[Scanner(site=0, daily=60)]).sources()
    inside = batches.times < LEARNT
    past = Arrivals(
        calendar=Calendar(cell=lived.calendar.cell[:LEARNT], day=lived.calendar.day[:LEARNT]),
        times=batches.times[inside],
        leaf=batches.leaf[inside],
        watched=batches.watched[:LEARNT],
    )
    nightly = ArrivalWatch.learn(
        past, past, alone, AlarmBudget(false_alarms=1, looks_an_hour=4)
    )
    nobody = np.zeros(1, dtype=bool)
    for now in np.arange(LEARNT + 0.25, LEARNT + 72, 0.25):
        assert nightly.at(now, batches, batches).findings(in_alarm=nobody) == [], now
    # And a batch that does not come is missed once its hour is over.
    died = replace(
        batches,
        times=batches.times[batches.times < LEARNT + 25],
        leaf=batches.leaf[batches.times < LEARNT + 25],
    )
    hour_of_batch, days_later = LEARNT + 26.5, LEARNT + 5 * 24.0
    assert nightly.at(hour_of_batch, died, died).findings(in_alarm=nobody) == []
    assert nightly.at(days_later, died, died).findings(in_alarm=nobody) != []


@pytest.mark.parametrize("back", [False, True])
def test_an_alarm_ends_when_scans_come_again_and_not_before(back: bool) -> None:
    arrivals = silenced([0], NOW - 10, NOW + 2 if back else 1e9)
    places = np.array([True, False, False, False])
    states = [
        look(arrivals, now).recovered(NORTH_LARGE, places, Question.SILENT)
        for now in (NOW + 1.0, NOW + 5.0)
    ]
    assert states == [False, back]


def test_one_late_scan_does_not_end_a_silence() -> None:
    dead = silenced([0], NOW - 10)
    stray = arrivals_of(
        dead.calendar, np.append(dead.times, NOW - 1), np.append(dead.leaf, 0), 4
    )
    places = np.array([True, False, False, False])
    now = NOW + 1.0
    assert not look(stray, now).recovered(NORTH_LARGE, places, Question.SILENT)


def test_a_surplus_ends_once_the_storm_is_over() -> None:
    places = np.array([False, True, False, False])
    storm = stormed(1, 120, NOW - 0.6)
    states = [
        look(storm, now).recovered(NORTH_SMALL, places, Question.SURGE)
        for now in (NOW, NOW + 8.0)
    ]
    assert states == [False, True]


def test_looking_more_often_raises_no_more_alarms() -> None:
    # Silences are tried directly: those that ever reach a p-value, at whichever look.
    rng = np.random.default_rng(6)
    single = watch().studies
    rates = single.rates[:, 0]
    summed = np.concatenate([[0.0], np.cumsum(np.tile(rates, 3))])
    level, silences = 0.01, 4_000
    starts = rng.uniform(0, 168, silences)
    masses = rng.exponential(size=silences)
    ends = np.interp(
        np.interp(starts, np.arange(len(summed)), summed) + masses,
        summed,
        np.arange(len(summed)),
    )

    def reached(every: float) -> int:
        last_look = np.floor(ends / every) * every
        seen = np.maximum(last_look, starts)
        mass = np.interp(seen, np.arange(len(summed)), summed) - np.interp(
            starts, np.arange(len(summed)), summed
        )
        return int((np.exp(-mass) <= level).sum())

    counts = [reached(every) for every in (6.0, 1.0, 1 / 12)]
    assert counts == sorted(counts)
    assert counts[-1] <= level * silences + 4 * np.sqrt(level * silences)


def test_when_a_stop_would_be_noticed_is_when_it_is() -> None:
    now = LEARNT + 2 * 24 + 9.0
    hours = promised(life(), NORTH_LARGE, now)
    seen, _ = first_alarm(silenced([0], now), now, now + 30)
    last = life().times[(life().leaf == 0) & (life().times < now)][-1]
    assert hours == pytest.approx(seen - now, abs=2.0 + now - last)
    assert promised(life(), NORTH_SMALL, now) > hours


def test_a_scanner_that_is_silent_already_delays_no_other_one_s_alarm() -> None:
    now = LEARNT + 2 * 24 + 14.0
    dead = silenced([0], now - 30)
    known, unknown = (promised(dead, NORTH_SMALL, now, one) for one in (leaves(0), NOBODY))
    assert known < unknown


def test_a_stop_shows_by_when_it_was_promised_in_most_lives_of_a_small_fleet() -> None:
    world = small_group()
    late = 0
    lives = 40
    for seed in range(lives):
        lived = world.draw(10, np.random.default_rng([4, seed]))
        death = 8 * CELLS + 24.0
        past = Arrivals(
            calendar=Calendar(
                cell=lived.calendar.cell[: 8 * CELLS], day=lived.calendar.day[: 8 * CELLS]
            ),
            times=lived.times[lived.times < 8 * CELLS],
            leaf=lived.leaf[lived.times < 8 * CELLS],
            watched=lived.watched[: 8 * CELLS],
        )
        learnt = ArrivalWatch.learn(
            past, past, world.sources(), AlarmBudget(false_alarms=1, looks_an_hour=1)
        )
        scanner = int(np.flatnonzero(learnt.sources.members.sum(axis=1) == 1)[0])
        leaf = learnt.sources.members[scanner]
        nobody = np.zeros(len(leaf), dtype=bool)
        before = until(lived, death)
        said = learnt.at(death, before, before).hours_until_noticed(scanner, in_alarm=nobody)
        kept = ~leaf[lived.leaf] | (lived.times < death)
        dead = replace(lived, times=lived.times[kept], leaf=lived.leaf[kept])
        seen = learnt.at(death + said, dead, dead).findings(in_alarm=nobody)
        late += not any(finding.leaves[leaf].all() for finding in seen)
    # On one day in four the others send less than is reckoned with.
    assert late <= lives / 4


def leaves(*which: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(4), which)


def test_the_last_arrival_is_that_before_now() -> None:
    times = life().times[np.isin(life().leaf, [0, 1])]
    assert look(life()).last_arrival(leaves(0, 1)) == times[times <= NOW][-1]
    assert look(silenced([0], 0.0)).last_arrival(leaves(0)) == 0.0
