from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from monitor.statistics.performance.label_shift import (
    LEAST_FIT,
    at_prevalence,
    estimate_label_shift,
    likeliest_prevalence,
)
from monitor.statistics.performance.recalibration import CalibratedReference
from registry.errors import BadInputError, InsufficientDataError

LEVEL = 0.95


def readings(
    rng: np.random.Generator,
    scans: int,
    prevalence: float,
    *,
    scans_of_a_patient: int = 1,
    contrast: float = 1.4,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores whose distribution given the truth is always the same at the same contrast."""
    patients = np.arange(scans) // scans_of_a_patient
    truth = (rng.random(scans) < prevalence)[patients]
    margin = np.where(truth, 0.9, -0.9) + rng.normal(size=scans)[patients]
    return expit(contrast * margin - 0.5), truth, patients


def by_expectation_maximisation(
    probabilities: np.ndarray, before: float, weights: np.ndarray
) -> float:
    """Saerens et al. (2002), eq. 2.9, step by step."""
    share, moved = before, 1.0
    while moved > 1e-10:
        now = at_prevalence(probabilities, before=before, after=share)
        following = float(weights @ now / weights.sum())
        share, moved = following, abs(following - share)
    return share


def test_the_likeliest_prevalence_is_where_expectation_maximisation_ends() -> None:
    rng = np.random.default_rng(0)
    probabilities = np.clip(rng.beta(0.7, 1.1, size=(5, 80)), 1e-6, 1 - 1e-6)
    before = np.array([0.2, 0.3, 0.4, 0.6, 0.8])
    weights = rng.poisson(1.0, size=(5, 80)).astype(float)
    found = likeliest_prevalence(probabilities, before=before, weights=weights)
    for row in range(5):
        expected = by_expectation_maximisation(probabilities[row], before[row], weights[row])
        assert found[row] == pytest.approx(expected, abs=1e-6)


def test_of_one_kind_of_scan_alone_the_prevalence_is_0_or_1() -> None:
    ones = np.ones((1, 30))
    for probability, expected in ((0.05, 0.0), (0.95, 1.0)):
        probabilities = np.full(30, probability)
        found = likeliest_prevalence(probabilities, before=0.4, weights=ones)
        assert found[0] == expected


def test_probabilities_at_a_prevalence_follow_bayes() -> None:
    likelihood_ratio, before, after = 7.0, 0.3, 0.05
    odds = likelihood_ratio * np.array([before / (1 - before), after / (1 - after)])
    then, now = odds / (1 + odds)
    found = at_prevalence(np.array([then]), before=before, after=after)
    assert found[0] == pytest.approx(now, rel=1e-12)


def test_the_reference_itself_has_its_own_prevalence_and_fits() -> None:
    scores, truth, _ = readings(np.random.default_rng(1), 300, 0.3)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    found = estimate_label_shift(reference, scores, level=LEVEL, seed=0)
    assert found.prevalence == pytest.approx(found.before, abs=1e-8)
    assert found.before == pytest.approx(truth.mean(), abs=0.01)
    assert found.fit_p_value > 0.99


def test_intervals_hold_the_prevalence_and_fits_are_rejected_as_often_as_declared() -> None:
    rng, times = np.random.default_rng(2), 60
    missed = rejected = 0
    for number in range(times):
        scans = 1 + number % 2
        scores, truth, patients = readings(rng, 240, 0.4, scans_of_a_patient=scans)
        reference = CalibratedReference.fit(scores, truth, patients, seed=number)
        window, _, window_patients = readings(rng, 100, 0.2, scans_of_a_patient=scans)
        found = estimate_label_shift(
            reference, window, window_patients, level=LEVEL, seed=number
        )
        missed += 0.2 not in found.interval
        rejected += not found.explains
    # What the declared rates would exceed once in a thousand tests.
    assert missed <= binom.ppf(0.999, times, 1 - LEVEL)
    assert rejected <= binom.ppf(0.999, times, LEAST_FIT)


def test_a_finding_that_hardly_occurs_has_an_interval_that_does_not_end_at_0() -> None:
    rng, times, missed = np.random.default_rng(3), 40, 0
    scores, truth, _ = readings(rng, 600, 0.3)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    for number in range(times):
        window, _, _ = readings(rng, 100, 0.02)
        found = estimate_label_shift(reference, window, level=LEVEL, seed=number)
        missed += 0.02 not in found.interval
        assert found.interval.high > 0.01
    assert missed <= binom.ppf(0.999, times, 1 - LEVEL)


@pytest.mark.parametrize("contrast", [0.6, 3.0])
def test_scores_of_another_contrast_are_explained_by_no_prevalence(contrast: float) -> None:
    rng = np.random.default_rng(4)
    scores, truth, _ = readings(rng, 600, 0.4)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    window, _, _ = readings(rng, 300, 0.4, contrast=contrast)
    found = estimate_label_shift(reference, window, level=LEVEL, seed=0)
    assert not found.explains
    assert found.fit_p_value < 0.01


def test_copies_of_a_scan_say_no_more_than_one_of_it() -> None:
    rng = np.random.default_rng(5)
    scores, truth, _ = readings(rng, 400, 0.4)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    window, _, _ = readings(rng, 60, 0.3)
    once = estimate_label_shift(reference, window, level=LEVEL, seed=0)
    copies = estimate_label_shift(
        reference, np.repeat(window, 5), np.repeat(np.arange(60), 5), level=LEVEL, seed=0
    )
    assert copies.prevalence == pytest.approx(once.prevalence, abs=1e-9)
    assert copies.interval.low == pytest.approx(once.interval.low, abs=1e-9)
    assert copies.interval.high == pytest.approx(once.interval.high, abs=1e-9)
    assert copies.fit_p_value == pytest.approx(once.fit_p_value, abs=1e-9)
    assert (copies.scans, copies.patients) == (300, 60)


def test_a_window_of_few_patients_is_refused() -> None:
    rng = np.random.default_rng(6)
    scores, truth, _ = readings(rng, 200, 0.4)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    with pytest.raises(InsufficientDataError, match="patients in the window: need at least 20"):
        estimate_label_shift(reference, scores[:100], np.arange(100) % 19, level=LEVEL, seed=0)
    # As of scans apart from a place, where all are of the place.
    with pytest.raises(InsufficientDataError, match="need at least 20, got 0"):
        estimate_label_shift(reference, scores[:0], [], level=LEVEL, seed=0)


def test_a_reference_calibrated_on_embeddings_is_refused() -> None:
    rng = np.random.default_rng(7)
    scores, truth, _ = readings(rng, 400, 0.4)
    vectors = (truth[:, None] + rng.normal(size=(400, 6))).astype(np.float32)
    reference = CalibratedReference.fit(scores, truth, vectors=vectors, seed=0)
    with pytest.raises(BadInputError, match="without vectors"):
        estimate_label_shift(reference, scores, level=LEVEL, seed=0)
