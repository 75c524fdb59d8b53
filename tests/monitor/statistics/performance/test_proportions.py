import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from monitor.statistics.performance.proportions import (
    Interval,
    checked_patients,
    design_effect,
    operating_point,
    proportion,
    wilson,
)
from registry.errors import BadInputError, InsufficientDataError

levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 20), (50, 61), (61, 61)])
def test_wilson_agrees_with_statsmodels(successes: int, trials: int) -> None:
    interval = wilson(successes, trials, level=0.9)
    expected = proportion_confint(successes, trials, alpha=0.1, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I: 81 of 263, score method.
    interval = wilson(81, 263, level=0.95)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


@given(
    counts=st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    level=levels,
)
def test_wilson_holds_the_estimate_within_0_and_1_and_mirrors(
    counts: tuple[int, int], level: float
) -> None:
    successes, trials = counts
    interval = wilson(successes, trials, level=level)
    assert successes / trials in interval
    assert 0.0 <= interval.low < interval.high <= 1.0
    mirrored = wilson(trials - successes, trials, level=level)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-12)


@given(events=st.lists(st.booleans(), min_size=1, max_size=60), level=levels)
def test_one_scan_per_patient_is_plain_wilson(events: list[bool], level: float) -> None:
    named = [f"p{index}" for index in range(len(events))]
    found = proportion(events, named, level=level)
    assert found.design_effect == 1.0
    assert found.interval == wilson(sum(events), len(events), level=level)


def test_a_design_effect_is_1_without_and_the_scans_of_a_patient_with_full_dependence() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(500), 4)
    independent = (rng.random(2000) < 0.3) - 0.3
    dependent = np.repeat(rng.random(500) < 0.3, 4) - 0.3
    groups = checked_patients(patients, scans=2000)
    assert design_effect(independent, groups) == pytest.approx(1.0, abs=0.15)
    centred = dependent - dependent.mean()
    assert design_effect(centred, groups) == pytest.approx(4.0, rel=0.01)


def test_doubling_every_scan_does_not_narrow_the_interval_when_patients_are_known() -> None:
    events = np.arange(80) < 60
    patients = np.arange(80)
    once = proportion(events, patients, level=0.95)
    twice = proportion(np.tile(events, 2), np.tile(patients, 2), level=0.95)
    ignored = proportion(np.tile(events, 2), level=0.95)
    assert twice.interval.high - twice.interval.low == pytest.approx(
        once.interval.high - once.interval.low, rel=0.01
    )
    assert ignored.interval.high - ignored.interval.low < 0.75 * (
        once.interval.high - once.interval.low
    )


def test_agreement_of_all_scans_counts_patients_not_scans() -> None:
    found = proportion(np.ones(40), np.repeat(np.arange(10), 4), level=0.95)
    assert found.interval == wilson(10, 10, level=0.95)


@pytest.mark.parametrize("correlated", [False, True])
def test_the_clustered_interval_covers_at_its_level(correlated: bool) -> None:
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
    covered = 0
    for _ in range(400):
        chance = rng.beta(4, 1, size=60) if correlated else np.full(60, 0.8)
        events = rng.random(len(patients)) < chance[patients]
        covered += 0.8 in proportion(events, patients, level=0.9).interval
    # 0.9 less three binomial standard errors, and a little for 60 patients.
    assert covered / 400 >= 0.84


def test_sensitivity_and_specificity_are_counted_at_the_threshold() -> None:
    point = operating_point(
        [0.9, 0.5, 0.49, 0.2, 0.5, 0.1], [1, 1, 1, 0, 0, 0], threshold=0.5, level=0.95
    )
    assert (point.sensitivity.successes, point.sensitivity.scans) == (2, 3)
    assert (point.specificity.successes, point.specificity.scans) == (2, 3)


def test_sensitivity_is_clustered_by_the_patients_with_the_finding() -> None:
    truth = np.array([1, 1, 1, 1, 0, 0])
    point = operating_point(
        np.array([0.9, 0.9, 0.1, 0.1, 0.1, 0.9]),
        truth,
        threshold=0.5,
        patients=["a", "a", "b", "b", "a", "c"],
        level=0.95,
    )
    assert point.sensitivity.patients == 2
    assert point.sensitivity.design_effect == pytest.approx(3.0)  # 2/(2-1) * 3/4 * 2
    assert point.specificity.design_effect == 1.0


@pytest.mark.parametrize("truth", [[1, 1], [0, 0]])
def test_a_missing_class_is_named(truth: list[int]) -> None:
    with pytest.raises(InsufficientDataError, match="at least 1, got 0"):
        operating_point([0.2, 0.3], truth, threshold=0.5, level=0.95)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2, level=0.95), "3 successes in 2 trials"),
        (lambda: wilson(1, 2, level=95), "confidence level"),
        (lambda: proportion([0, 1, 2], level=0.9), "one 0 or 1"),
        (lambda: proportion([0, 1], ["a"], level=0.9), r"shape \[1\], and there are 2"),
        (
            lambda: operating_point([math.nan, 0.1], [0, 1], threshold=0.5, level=0.9),
            "1 of 2 probabilities are NaN",
        ),
        (lambda: Interval(low=0.2, high=0.1, level=0.9), "low <= high"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        call()  # type: ignore[operator]


def test_no_scans_are_too_few() -> None:
    with pytest.raises(InsufficientDataError):
        proportion([], level=0.95)
