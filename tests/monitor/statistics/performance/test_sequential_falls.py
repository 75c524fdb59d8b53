from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom, norm

from monitor.statistics.performance.discrimination import Area, estimate_auc
from monitor.statistics.performance.proportions import Proportion, proportion
from monitor.statistics.performance.sequential_falls import (
    area_fall_in_sequence,
    fall_in_sequence,
    log_fortune,
)
from registry.errors import BadInputError, InsufficientDataError

STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9)


def reference(rng: np.random.Generator, patients: int, share: float) -> Proportion:
    return proportion(rng.random(patients) < share, level=0.95)


def test_a_fortune_is_the_mean_of_what_single_stakes_win() -> None:
    values, means = np.array([1.0, 0.0, 0.25, 0.0]), np.array([0.6, 0.9])
    found = np.exp(log_fortune(values, means))
    for column, mean in enumerate(means):
        fortunes = [1.0] * len(STAKES)
        for row, value in enumerate(values):
            fortunes = [
                fortune * (1 + part / (1 - mean) * (mean - value))
                for fortune, part in zip(fortunes, STAKES, strict=True)
            ]
            assert found[row, column] == pytest.approx(np.mean(fortunes), rel=1e-12)


@pytest.mark.parametrize(("mean", "grows"), [(0.7, 0.0), (0.8, -1.0), (0.6, 1.0)])
def test_a_fair_fortune_is_expected_to_stay_and_an_unfair_one_to_go(
    mean: float, grows: float
) -> None:
    expected = 0.0
    for values in product((0.0, 1.0), repeat=8):
        chance = np.prod([mean if value else 1 - mean for value in values])
        fortune = log_fortune(np.array(values), np.array([0.7]))[-1, 0]
        expected += float(chance * np.exp(fortune))
    if grows == 0.0:
        assert expected == pytest.approx(1.0, rel=1e-12)
    else:
        assert (expected - 1.0) * grows > 0.01


def test_against_a_mean_of_0_nothing_is_won() -> None:
    assert log_fortune(np.zeros(50), np.array([0.0, -0.2])) == pytest.approx(0.0)


def test_however_often_it_is_asked_no_fall_is_found_more_often_than_declared() -> None:
    rng, times, alpha = np.random.default_rng(0), 150, 0.05
    found = 0
    for number in range(times):
        # Half of them fell by exactly the margin, half did not fall at all.
        margin = 0.05 if number % 2 else 0.0
        before = reference(rng, 60 + 4 * number, 0.9)
        values = rng.random(250) < 0.9 - margin
        found += fall_in_sequence(values, before, margin=margin).p_value <= alpha
    assert found <= binom.ppf(0.999, times, alpha)


def test_a_fixed_test_that_is_repeated_finds_falls_that_are_not_there() -> None:
    """What betting avoids: the same question asked with a test of fixed size."""
    rng, times, alpha = np.random.default_rng(1), 150, 0.05
    found = 0
    for _ in range(times):
        values = np.cumsum(rng.random(250) < 0.9)
        seen = np.arange(1, 251)
        share, before = values / seen, reference(rng, 400, 0.9).estimate
        error = np.sqrt(share * (1 - share) / seen + before * (1 - before) / 400)
        deviate = np.where(seen >= 20, (before - share) / np.maximum(error, 1e-9), 0.0)
        found += (deviate > norm.isf(alpha)).any()
    assert found > binom.ppf(0.999, times, alpha)


def test_three_times_the_patients_give_the_power_of_a_test_that_is_asked_once() -> None:
    rng, times, alpha, margin = np.random.default_rng(2), 60, 0.05, 0.05
    before, after, of_reference = 0.9, 0.72, 400
    spread = after * (1 - after)
    # The fixed test's patients for a power of .8, the reference's own error known.
    needed = spread * ((norm.isf(alpha) + norm.isf(0.2)) / (before - margin - after)) ** 2
    found = 0
    for _ in range(times):
        values = rng.random(int(3 * needed)) < after
        fall = fall_in_sequence(values, reference(rng, of_reference, before), margin=margin)
        found += fall.p_value <= alpha
    assert found >= binom.ppf(0.01, times, 0.8)


def test_evidence_once_seen_stays() -> None:
    rng = np.random.default_rng(3)
    before = reference(rng, 300, 0.95)
    values = np.concatenate([np.zeros(40), np.ones(400)])
    p_values = [
        fall_in_sequence(values[:seen], before, margin=0.05).p_value for seen in (10, 40, 440)
    ]
    assert p_values[0] > p_values[1]
    assert p_values[1] == p_values[2] < 1e-6


def test_a_smaller_reference_says_less() -> None:
    values = np.random.default_rng(4).random(120) < 0.7
    few = proportion(np.arange(40) < 36, level=0.95)
    many = proportion(np.arange(1000) < 900, level=0.95)
    little = fall_in_sequence(values, few, margin=0.05)
    much = fall_in_sequence(values, many, margin=0.05)
    assert little.log_evidence < much.log_evidence
    assert (much.before, much.values) == (0.9, 120)
    assert much.after == pytest.approx(values.mean())


def areas(
    rng: np.random.Generator, patients: int, separation: float, *, every: int = 20
) -> list[Area]:
    """Areas after more and more patients, a third of them with the finding."""
    truth = np.arange(patients) % 3 == 0
    scores = np.where(truth, separation, 0.0) + rng.normal(size=patients)
    return [
        estimate_auc(scores[:seen], truth[:seen], level=0.95)
        for seen in range(60, patients + 1, every)
    ]


def test_however_often_an_area_is_looked_at_no_fall_is_found_more_often_than_declared() -> None:
    rng, times, alpha = np.random.default_rng(6), 100, 0.05
    found = 0
    for number in range(times):
        # Half of them fell by exactly the margin, half did not fall at all.
        margin = 0.02 if number % 2 else 0.0
        before = float(ndtr(1.5 / np.sqrt(2)))
        after = np.sqrt(2) * norm.ppf(before - margin)
        [*_, reference_area] = areas(rng, 150 + number, 1.5, every=150 + number - 60)
        looks = areas(rng, 400, after)
        found += area_fall_in_sequence(looks, reference_area, margin=margin).p_value <= alpha
    assert found <= binom.ppf(0.999, times, alpha)


def test_the_evidence_on_an_area_is_the_least_over_what_it_was_before() -> None:
    rng = np.random.default_rng(7)
    [*_, before] = areas(rng, 300, 2.0, every=240)
    looks = areas(rng, 200, 0.8, every=70)
    margin, best = 0.02, 0.0
    for look in looks:
        information = look.standard_error**-2
        products = []
        for z in np.linspace(-4, 8, 121):
            bounds = before.bounds(abs(z))
            below = (bounds[0] if z > 0 else bounds[1]) - margin - look.estimate
            drops = np.array([0.02, 0.04, 0.08, 0.16])
            fortune = np.exp(drops * below * information - drops**2 * information / 2).mean()
            tilts = np.array([1.0, 2.0, 3.0])
            products.append(fortune * np.exp(tilts * z - tilts**2 / 2).mean())
        best = max(best, float(np.log(min(products))))
    found = area_fall_in_sequence(looks, before, margin=margin)
    assert found.log_evidence == pytest.approx(best, rel=1e-9)
    assert found.p_value < 0.01
    assert (found.before, found.after) == (before.estimate, looks[-1].estimate)
    assert found.values == looks[-1].patients


def test_an_area_of_1_did_not_fall() -> None:
    truth = np.arange(90) % 3 == 0
    whole = estimate_auc(truth.astype(float), truth, level=0.95)
    found = area_fall_in_sequence([whole], whole, margin=0.02)
    assert found.p_value == 1.0


@pytest.mark.parametrize("values", [[0.5, 1.2], [-0.1], [[0.5]], [float("nan")]])
def test_values_that_are_no_shares_are_refused(values: object) -> None:
    before = proportion([True, False], level=0.95)
    with pytest.raises(BadInputError, match=r"in \[0, 1\]"):
        fall_in_sequence(values, before, margin=0.05)


def test_no_values_and_wrong_margins_are_refused() -> None:
    before = proportion([True, False], level=0.95)
    with pytest.raises(InsufficientDataError, match="values to bet on"):
        fall_in_sequence([], before, margin=0.05)
    with pytest.raises(BadInputError, match="margin"):
        fall_in_sequence([1.0], before, margin=1.0)
    area = estimate_auc([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], level=0.95)
    with pytest.raises(InsufficientDataError, match="areas to bet on"):
        area_fall_in_sequence([], area, margin=0.02)
    with pytest.raises(BadInputError, match="margin"):
        area_fall_in_sequence([area], area, margin=-0.1)
