from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from monitor.statistics.performance.difference_of_confidences import (
    SecondOpinion,
    by_difference_of_confidences,
    by_thresholded_confidence,
)
from monitor.statistics.performance.recalibration import CalibratedReference
from registry.errors import InsufficientDataError

THRESHOLD = 0.5
WAYS = (by_difference_of_confidences, by_thresholded_confidence)
Way = Callable[..., SecondOpinion]


def readings(seed: int, scans: int, centre: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    margin = centre + 1.5 * rng.normal(size=scans)
    return expit(1.7 * margin + 0.4), rng.random(scans) < expit(margin)


def measured(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    called = scores >= THRESHOLD
    return {
        "ppv": truth[called].mean(),
        "npv": 1 - truth[~called].mean(),
        "sensitivity": called[truth].mean(),
        "specificity": 1 - called[~truth].mean(),
    }


def test_on_the_reference_itself_both_say_what_its_labels_say() -> None:
    scores, truth = readings(0, 800, -0.3)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    expected = measured(scores, truth)
    thresholded = by_thresholded_confidence(reference, scores, threshold=THRESHOLD)
    moved = by_difference_of_confidences(reference, scores, threshold=THRESHOLD)
    for name, value in expected.items():
        assert getattr(thresholded, name) == pytest.approx(value, abs=1e-12)
        # The confidences that are compared did not see their own patients.
        assert getattr(moved, name) == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_under_covariate_shift_both_are_nearer_than_the_reference(way: Way) -> None:
    scores, truth = readings(1, 3000, 0.3)
    window, window_truth = readings(2, 3000, -1.2)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    found = way(reference, window, threshold=THRESHOLD)
    then, now = measured(scores, truth), measured(window, window_truth)
    for name in ("sensitivity", "specificity"):
        assert abs(getattr(found, name) - now[name]) < 0.5 * abs(then[name] - now[name])


def test_a_difference_of_confidences_is_the_change_of_their_mean() -> None:
    scores, truth = readings(3, 400, 0.0)
    window, _ = readings(4, 300, -0.7)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    found = by_difference_of_confidences(reference, window, threshold=THRESHOLD)
    called, now = scores >= THRESHOLD, window >= THRESHOLD
    before = reference.held_out[called].mean()
    after = reference.probabilities(window)[now].mean()
    assert found.ppv == pytest.approx(truth[called].mean() + after - before, rel=1e-12)


def test_thresholds_of_confidence_leave_the_references_share_of_right_calls() -> None:
    scores = np.linspace(0.005, 0.995, 100)
    truth = scores > 0.4
    truth[55:60] = False  # five of fifty positive calls are wrong
    reference = CalibratedReference.fit(scores, truth, seed=0)
    # The five least confident positive calls are .505 to .545: in the window one of four is.
    window = np.array([0.52, 0.6, 0.7, 0.8, 0.1, 0.2])
    found = by_thresholded_confidence(reference, window, threshold=THRESHOLD)
    assert found.ppv == pytest.approx(3 / 4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("scores", "lacking"), [(0.9, "negative"), (0.1, "positive")])
def test_a_window_on_one_side_of_the_threshold_has_no_second_opinion(
    way: Way, scores: float, lacking: str
) -> None:
    reference = CalibratedReference.fit(*readings(5, 300, 0.0), seed=0)
    with pytest.raises(InsufficientDataError, match=f"window scans that are called {lacking}"):
        way(reference, np.full(30, scores), threshold=THRESHOLD)
