from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from monitor.statistics.performance.verification import verification_bias
from registry.errors import InsufficientDataError

#: Called positive, called negative; verified with and without the finding, not verified.
TABLE = ((231, 32, 166), (27, 54, 140))


def scans_of(table: tuple[tuple[int, int, int], ...]) -> tuple[np.ndarray, ...]:
    scores, truth, labelled = [], [], []
    for score, (ill, well, unknown) in zip((0.9, 0.1), table, strict=True):
        scores += [score] * (ill + well + unknown)
        truth += [1] * ill + [0] * (well + unknown)
        labelled += [1] * (ill + well) + [0] * unknown
    return np.array(scores), np.array(truth), np.array(labelled)


def test_counts_are_corrected_as_by_begg_and_greenes() -> None:
    found = verification_bias(*scans_of(TABLE), threshold=0.5, level=0.95)
    ill = 429 * 231 / 263, 221 * 27 / 81
    well = 429 * 32 / 263, 221 * 54 / 81
    assert found.sensitivity.estimate == pytest.approx(ill[0] / sum(ill), rel=1e-12)
    assert found.specificity.estimate == pytest.approx(well[1] / sum(well), rel=1e-12)
    assert round(found.sensitivity.estimate, 3) == 0.836
    assert round(found.specificity.estimate, 3) == 0.738
    assert found.naive_sensitivity.estimate == pytest.approx(231 / 258)
    assert found.naive_specificity.estimate == pytest.approx(54 / 86)
    assert (found.called_positive.share, found.called_negative.share) == (263 / 429, 81 / 221)


def test_the_interval_is_that_of_the_closed_form_for_two_strata() -> None:
    # The variance in log-odds: 1 / (N f (1 - f)) + (1 - p) / (p m) + (1 - q) / (q n).
    found = verification_bias(*scans_of(TABLE), threshold=0.5, level=0.95)
    share, p, q = 429 / 650, 231 / 263, 27 / 81
    variance = 1 / (650 * share * (1 - share)) + (1 - p) / (p * 263) + (1 - q) / (q * 81)
    centre = math.log(found.sensitivity.estimate / (1 - found.sensitivity.estimate))
    low, high = (expit(centre + sign * 1.959964 * math.sqrt(variance)) for sign in (-1, 1))
    assert found.sensitivity.interval.low == pytest.approx(low, abs=1e-6)
    assert found.sensitivity.interval.high == pytest.approx(high, abs=1e-6)
    variance = 1 / (650 * share * (1 - share)) + q / ((1 - q) * 81) + p / ((1 - p) * 263)
    centre = math.log(found.specificity.estimate / (1 - found.specificity.estimate))
    assert found.specificity.interval.low == pytest.approx(
        expit(centre - 1.959964 * math.sqrt(variance)), abs=1e-6
    )


def test_with_every_scan_labelled_nothing_is_corrected() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    scores = expit(rng.normal(2.0 * truth - 1.0, 1.0))
    found = verification_bias(scores, truth, np.ones(400), threshold=0.5, level=0.95)
    assert found.sensitivity.estimate == pytest.approx(found.naive_sensitivity.estimate)
    assert found.specificity.estimate == pytest.approx(found.naive_specificity.estimate)


@pytest.mark.parametrize("scans_of_a_patient", [1, 3])
def test_intervals_cover_the_truth_where_labels_follow_the_score(
    scans_of_a_patient: int,
) -> None:
    rng, times = np.random.default_rng(1), 300
    inside, naive = np.zeros(2, dtype=int), []
    for _ in range(times):
        truth = np.repeat(rng.random(500) < 0.3, scans_of_a_patient)
        patients = np.repeat(np.arange(500), scans_of_a_patient)
        own = np.repeat(rng.normal(size=500), scans_of_a_patient)
        error = own if scans_of_a_patient == 1 else 0.7 * (own + rng.normal(size=len(own)))
        # At 0.5 the sensitivity is .841 and the specificity .933.
        value = np.where(truth, 1.0, -1.5) + error
        known = rng.random(len(value)) < np.where(value >= 0, 0.7, 0.15)
        found = verification_bias(
            expit(value),
            truth.astype(int),
            known.astype(int),
            threshold=0.5,
            patients=patients,
            level=0.95,
        )
        scale = 1.0 if scans_of_a_patient == 1 else 0.7 * math.sqrt(2)
        sensitivity = 1 - _normal_below(-1.0 / scale)
        specificity = _normal_below(1.5 / scale)
        inside += (
            sensitivity in found.sensitivity.interval,
            specificity in found.specificity.interval,
        )
        naive.append(found.naive_sensitivity.estimate)
    # Two-sided .999 bounds of a coverage of .95, and a little for being approximate.
    assert inside.min() >= binom.ppf(0.0005, times, 0.94), inside / times
    assert np.mean(naive) > sensitivity + 0.08


def _normal_below(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def test_a_call_without_labels_says_so() -> None:
    with pytest.raises(InsufficientDataError, match="called negative"):
        verification_bias([0.9, 0.8, 0.1], [1, 0, 0], [1, 1, 0], threshold=0.5, level=0.95)


def test_what_is_written_where_no_label_is_changes_nothing() -> None:
    scores, truth, labelled = scans_of(TABLE)
    other = np.where(labelled == 1, truth, 1 - truth)
    one = verification_bias(scores, truth, labelled, threshold=0.5, level=0.95)
    two = verification_bias(scores, other, labelled, threshold=0.5, level=0.95)
    assert one == two
