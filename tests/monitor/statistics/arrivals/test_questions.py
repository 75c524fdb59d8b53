from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arrival_worlds import Scanner, World, hospital_group

from monitor.statistics.arrivals.learning import learn
from monitor.statistics.arrivals.questions import (
    DAYS_A_QUARTER,
    HOURS_A_QUARTER,
    AlarmBudget,
    Question,
    Tails,
    replay_tails,
)
from monitor.statistics.arrivals.spans import Expectation

BUDGET = AlarmBudget(false_alarms=2.0, looks_an_hour=4)


def test_the_budget_is_spent_once_over_sources_questions_and_looks() -> None:
    sources = hospital_group().sources()
    spent = 0.0
    for source in range(len(sources)):
        for question in Question:
            clumps = 50.0
            alpha = BUDGET.alpha(question, sources, source, clumps_a_week=clumps)
            match question:
                case Question.SILENT:
                    overnight = BUDGET.alpha(
                        question, sources, source, clumps_a_week=clumps, overnight=True
                    )
                    spent += alpha * clumps * 13 + overnight * DAYS_A_QUARTER
                case Question.SURGE:
                    spent += alpha * HOURS_A_QUARTER * 4
                case _:
                    spent += alpha * HOURS_A_QUARTER
    assert spent == pytest.approx(2.0)


def test_a_level_of_few_sources_has_as_much_of_the_budget_as_one_of_many() -> None:
    sources = hospital_group().sources()
    shares = [BUDGET.of(sources, source) for source in range(len(sources))]
    by_level = [
        sum(np.array(shares)[sources.levels == level]) for level in np.unique(sources.levels)
    ]
    assert by_level == pytest.approx([2 / 3] * 3)


def test_a_source_that_sends_hardly_anything_never_alarms_at_ordinary_p_values() -> None:
    sources = hospital_group().sources()
    huge = AlarmBudget(false_alarms=100, looks_an_hour=1)
    assert huge.alpha(Question.SILENT, sources, 0, clumps_a_week=0.0) == 0.05


def test_tails_only_ever_make_p_values_larger_and_keep_their_order() -> None:
    tails = Tails(excess=np.array([0.5]), slope=np.array([0.6]))
    values = -np.linspace(0, 30, 400)
    corrected = tails.corrected(values, 0)
    assert np.all(corrected >= values)
    assert np.all(corrected <= 0)
    assert np.all(np.diff(corrected) <= 1e-12)
    np.testing.assert_array_equal(corrected[values >= -3], values[values >= -3])
    same = Tails(excess=np.zeros(1), slope=np.ones(1)).corrected(values, 0)
    np.testing.assert_allclose(same, values, atol=1e-12)


def past(world: World, *, seed: int, **changes: object) -> Expectation:
    arrivals = world.draw(8, np.random.default_rng(seed))
    model = learn(arrivals, world.sources())
    return Expectation(model=replace(model, **changes), arrivals=arrivals)


def test_a_past_that_is_as_the_model_says_leaves_the_tails_alone() -> None:
    world = World(scanners=[Scanner(site=0, daily=rate) for rate in (80, 60, 40)], holidays=0.0)
    tails = replay_tails(Question.SILENT, past(world, seed=1))
    assert np.all(tails.slope > 0.85)
    assert np.all(tails.excess < 0.4)


def test_a_model_that_believes_too_much_is_corrected_by_its_past() -> None:
    # Clumps of three on average, which this model takes for single arrivals.
    world = World(
        scanners=[Scanner(site=0, daily=rate) for rate in (80, 60, 40)],
        holidays=0.0,
        clump=3.0,
    )
    blind = past(world, seed=2, bursts=np.ones(4), spreads=np.full(4, 0.003))
    tails = replay_tails(Question.SILENT, blind)
    # A silence of m expected arrivals has exp(-m / 3) where the model says exp(-m).
    assert np.all(tails.slope < 0.55)
    many = replay_tails(Question.SURGE, blind)
    assert np.all(many.slope < 0.75)
