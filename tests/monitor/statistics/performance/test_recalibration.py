from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.patients import Patients
from monitor.statistics.performance.beta_calibration import beta_coefficients
from monitor.statistics.performance.recalibration import (
    LEAST_PATIENTS,
    REDRAWS,
    CalibratedReference,
    redrawn_window,
)
from registry.errors import BadInputError, InsufficientDataError


def readings(
    seed: int, scans: int = 300, *, slopes: tuple[float, float] = (0.6, 1.4)
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a champion that exaggerates, and the truth drawn from what they mean."""
    rng = np.random.default_rng(seed)
    scores = expit(1.6 * rng.normal(size=scans))
    meaning = expit(-0.4 + slopes[0] * np.log(scores) - slopes[1] * np.log1p(-scores))
    return scores, rng.random(scans) < meaning


def test_what_scores_mean_is_found() -> None:
    scores, truth = readings(3, scans=5000)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    grid = np.linspace(0.05, 0.95, 19)
    meaning = expit(-0.4 + 0.6 * np.log(grid) - 1.4 * np.log1p(-grid))
    assert reference.probabilities(grid) == pytest.approx(meaning, abs=0.04)
    spread = reference.redrawn_probabilities(grid).std(axis=0)
    assert reference.redrawn_probabilities(grid).shape == (REDRAWS, 19)
    assert (np.abs(reference.probabilities(grid) - meaning) < 4 * spread).all()


def test_each_redraw_is_a_fit_to_patients_drawn_anew() -> None:
    scores, truth = readings(4)
    patients = np.arange(300) // 2
    reference = CalibratedReference.fit(scores, truth, patients, seed=7)
    weights = reference.redrawn_weights()
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    expected = beta_coefficients(scores, truth, weights[[0, 60, REDRAWS - 1]])
    assert reference.redrawn[[0, 60, REDRAWS - 1]] == pytest.approx(expected, abs=1e-6)


def test_reference_and_window_are_drawn_anew_independently() -> None:
    patients = Patients.of(None, scans=50)
    window = redrawn_window(patients, seed=3)
    for seed in (3, 6, 7):
        drawn = np.stack(list(resampled_weights(patients, resamples=REDRAWS, seed=2 * seed)))
        assert not np.array_equal(window, drawn)
    assert (window.sum(axis=1) == 50).all()


def test_a_held_out_probability_does_not_know_its_own_patient() -> None:
    scores, truth = readings(5)
    patients = np.arange(300) // 3
    reference = CalibratedReference.fit(scores, truth, patients, seed=0)
    other = truth.copy()
    other[30:33] = ~other[30:33]
    changed = CalibratedReference.fit(scores, other, patients, seed=0)
    assert changed.held_out[30:33] == pytest.approx(reference.held_out[30:33], rel=1e-9)
    assert np.abs(changed.held_out - reference.held_out).max() > 1e-5


def test_scores_that_separate_the_classes_have_a_calibration() -> None:
    truth = np.arange(100) < 50
    scores = np.where(truth, 0.9, 0.1) + np.linspace(-0.05, 0.05, 100)
    reference = CalibratedReference.fit(scores, truth, seed=0)
    assert np.isfinite(reference.redrawn).all()
    low, high = reference.probabilities(np.array([0.1, 0.9]))
    assert low < 0.06
    assert high > 0.94


def test_saturated_scores_are_no_certainty() -> None:
    scores, truth = readings(6)
    scores[:5], scores[5:10] = 0.0, 1.0
    reference = CalibratedReference.fit(scores, truth, seed=0)
    meaning = reference.probabilities(np.array([0.0, 1.0]))
    assert ((meaning > 0.0) & (meaning < 1.0)).all()


def test_of_a_large_reference_whole_patients_are_taken() -> None:
    scores, truth = readings(7, scans=12_000)
    patients = np.arange(12_000) // 4
    reference = CalibratedReference.fit(scores, truth, patients, seed=0)
    assert 2500 < len(reference.scores) <= 3000
    assert (reference.patients.scans == 4).all()


def test_too_few_patients_of_a_class_are_refused_by_name() -> None:
    scores = np.linspace(0.1, 0.9, 100)
    truth = np.arange(100) >= 50
    patients = np.where(truth, np.arange(100) % (LEAST_PATIENTS - 1), np.arange(100))
    with pytest.raises(
        InsufficientDataError, match="with the finding: need at least 20, got 1"
    ):
        CalibratedReference.fit(scores, truth, patients, seed=0)


def test_scores_that_fall_with_the_finding_are_refused() -> None:
    scores, truth = readings(9)
    with pytest.raises(InsufficientDataError, match="rise with the finding"):
        CalibratedReference.fit(1.0 - scores, truth, seed=0)


def test_logits_are_refused() -> None:
    scores, truth = readings(10)
    with pytest.raises(BadInputError, match="not logits"):
        CalibratedReference.fit(5 * scores, truth, seed=0)


def kinds(seed: int, scans: int, *, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truth and embeddings of two kinds of scans, of which a score means two things."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(scans, 12)).astype(np.float32)
    second = rng.random(scans) < share
    vectors[:, 0] = np.where(second, 3.0, -3.0) + vectors[:, 0]
    scores = expit(1.6 * rng.normal(size=scans))
    odds = np.log(scores / (1 - scores)) + np.where(second, -1.2, 1.2)
    return scores, rng.random(scans) < expit(odds), vectors


def test_a_score_means_what_it_means_for_scans_of_its_kind() -> None:
    scores, truth, vectors = kinds(11, 1200, share=0.5)
    reference = CalibratedReference.fit(scores, truth, vectors=vectors, seed=0)
    assert reference.axes is not None
    alone = CalibratedReference.fit(scores, truth, seed=0)
    window, window_truth, window_vectors = kinds(12, 3000, share=0.95)
    found = reference.probabilities(window, window_vectors).mean()
    assert found == pytest.approx(window_truth.mean(), abs=0.03)
    assert alone.probabilities(window).mean() > window_truth.mean() + 0.1


def test_embeddings_that_say_nothing_of_the_truth_are_left_out() -> None:
    scores, truth = readings(13)
    vectors = np.random.default_rng(14).normal(size=(300, 20)).astype(np.float32)
    reference = CalibratedReference.fit(scores, truth, vectors=vectors, seed=0)
    alone = CalibratedReference.fit(scores, truth, seed=0)
    assert reference.axes is None
    assert np.array_equal(reference.redrawn, alone.redrawn)


def test_axes_are_principal_components_of_variance_1() -> None:
    scores, truth, vectors = kinds(15, 400, share=0.5)
    reference = CalibratedReference.fit(scores, truth, vectors=vectors, seed=0)
    assert reference.axes is not None
    places = reference.axes.places(vectors)
    assert np.cov(places.T, bias=True) == pytest.approx(np.eye(places.shape[1]), abs=1e-6)
    leading = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[0][:, 0]
    together = np.abs(places.T @ leading) / np.linalg.norm(places, axis=0)
    assert together.max() == pytest.approx(1.0, abs=1e-5)


def test_embeddings_of_another_shape_are_refused() -> None:
    scores, truth, vectors = kinds(16, 400, share=0.5)
    with pytest.raises(BadInputError, match="399 embeddings came with 400 scores"):
        CalibratedReference.fit(scores, truth, vectors=vectors[1:], seed=0)
    reference = CalibratedReference.fit(scores, truth, vectors=vectors, seed=0)
    with pytest.raises(BadInputError, match="12 dimensions"):
        reference.probabilities(scores, vectors[:, :5])
