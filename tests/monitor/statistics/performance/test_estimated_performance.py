from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.special import expit, ndtr
from scipy.stats import binom
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from monitor.statistics.performance.estimated_performance import (
    OF_THE_MODEL,
    Assumption,
    Difference,
    EstimatedPerformance,
    NoEstimate,
    called_positive,
    estimate_under_covariate_shift,
    estimate_under_label_shift,
)
from monitor.statistics.performance.expected_measures import expected_measures
from monitor.statistics.performance.proportions import proportion, wilson
from monitor.statistics.performance.recalibration import CalibratedReference

LEVEL, THRESHOLD = 0.95, 0.5


def exaggerated(margin: np.ndarray) -> np.ndarray:
    """What a champion says at a margin whose log-odds are its own."""
    return np.asarray(expit(1.7 * margin + 0.4))


def under_covariate_shift(
    rng: np.random.Generator, scans: int, centre: float, *, scans_of_a_patient: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that always mean the same, of scans that are not."""
    patients = np.arange(scans) // scans_of_a_patient
    margin = centre + 1.5 * rng.normal(size=scans)
    truth = rng.random(scans) < expit(margin)
    # The scans of a patient are copies.
    return exaggerated(margin[patients]), truth[patients], patients


def true_under_covariate_shift(centre: float) -> dict[str, float]:
    """The population's performance, by the sum over a fine grid of margins."""
    margin = np.linspace(centre - 12, centre + 12, 20_001)
    density = np.exp(-((margin - centre) ** 2) / (2 * 1.5**2))
    density /= density.sum()
    sick, well = density * expit(margin), density * (1 - expit(margin))
    called = exaggerated(margin) >= THRESHOLD
    below = np.cumsum(well) - well / 2
    return {
        "auc": float(sick @ below / (sick.sum() * well.sum())),
        "sensitivity": float(sick[called].sum() / sick.sum()),
        "specificity": float(well[~called].sum() / well.sum()),
        "ppv": float(sick[called].sum() / density[called].sum()),
        "npv": float(well[~called].sum() / density[~called].sum()),
        "prevalence": float(sick.sum()),
    }


def under_label_shift(
    rng: np.random.Generator, scans: int, prevalence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two classes that stay as they are."""
    truth = rng.random(scans) < prevalence
    return expit(np.where(truth, 1.0, -1.0) + rng.normal(size=scans)), truth


def fitted(seed: int, scans: int = 500, centre: float = -0.5) -> CalibratedReference:
    scores, truth, _ = under_covariate_shift(np.random.default_rng(seed), scans, centre)
    return CalibratedReference.fit(scores, truth, seed=seed)


def told(found: EstimatedPerformance | NoEstimate) -> EstimatedPerformance:
    assert isinstance(found, EstimatedPerformance), found
    return found


def reason(found: EstimatedPerformance | NoEstimate) -> str:
    assert isinstance(found, NoEstimate), found
    return found.reason


# What is expected


def test_with_the_truth_for_probabilities_expected_measures_are_the_measures() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, size=60) / 8  # ties on purpose
    truth = rng.random(60) < scores
    found = expected_measures(
        truth.astype(float), np.ones((1, 60)), scores=scores, threshold=THRESHOLD
    )
    called = scores >= THRESHOLD
    expected = {
        "auc": roc_auc_score(truth, scores),
        "sensitivity": recall_score(truth, called),
        "specificity": recall_score(truth, called, pos_label=False),
        "ppv": precision_score(truth, called),
        "npv": precision_score(truth, called, pos_label=False),
        "prevalence": truth.mean(),
    }
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)


def test_the_expected_area_is_the_double_sum_over_pairs_of_scans() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, size=12) / 5
    probabilities = rng.random((3, 12))
    weights = rng.integers(0, 4, size=(3, 12)).astype(float)
    found = expected_measures(probabilities, weights, scores=scores, threshold=THRESHOLD)
    for row in range(3):
        ranked = pairs = 0.0
        for i, j in permutations(range(12), 2):
            mass = (
                weights[row, i]
                * probabilities[row, i]
                * weights[row, j]
                * (1 - probabilities[row, j])
            )
            ranked += mass * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
            pairs += mass
        assert found["auc"][row] == pytest.approx(ranked / pairs, rel=1e-12)


def test_expected_measures_are_what_drawn_truths_come_to() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random(200)
    scores = np.clip(probabilities + 0.2 * rng.normal(size=200), 0, 1)
    found = expected_measures(
        probabilities, np.ones((1, 200)), scores=scores, threshold=THRESHOLD
    )
    drawn = rng.random((2000, 200)) < probabilities
    realised = expected_measures(
        drawn.astype(float), np.ones((2000, 200)), scores=scores, threshold=THRESHOLD
    )
    for name, values in realised.items():
        error = values.std() / np.sqrt(2000)
        # A share of sums is not the mean of shares, by about one part in the sums.
        assert found[name][0] == pytest.approx(values.mean(), abs=4 * error + 0.002)


# Covariate shift


@pytest.mark.parametrize("scans_of_a_patient", [1, 2])
def test_under_covariate_shift_intervals_hold_the_truth_as_often_as_declared(
    scans_of_a_patient: int,
) -> None:
    rng, times, centre = np.random.default_rng(3), 40, -1.0
    truth = true_under_covariate_shift(centre)
    missed = dict.fromkeys(truth, 0)
    for number in range(times):
        scores, labels, patients = under_covariate_shift(
            rng, 300 * scans_of_a_patient, -0.3, scans_of_a_patient=scans_of_a_patient
        )
        reference = CalibratedReference.fit(scores, labels, patients, seed=number)
        window, _, window_patients = under_covariate_shift(
            rng, 150 * scans_of_a_patient, centre, scans_of_a_patient=scans_of_a_patient
        )
        found = told(
            estimate_under_covariate_shift(
                reference,
                window,
                window_patients,
                threshold=THRESHOLD,
                level=LEVEL,
                seed=number,
            )
        )
        for name, measure in found.measures().items():
            assert measure is not None
            missed[name] += truth[name] not in measure.interval
    # What 5 % would exceed once in a thousand tests.
    assert max(missed.values()) <= binom.ppf(0.999, times, 1 - LEVEL), missed


def test_the_differences_are_from_the_reference_as_its_labels_say() -> None:
    rng = np.random.default_rng(4)
    scores, labels, _ = under_covariate_shift(rng, 800, 0.0)
    reference = CalibratedReference.fit(scores, labels, seed=0)
    window, _, _ = under_covariate_shift(rng, 600, -1.5)
    found = told(
        estimate_under_covariate_shift(
            reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
        )
    )
    before = {
        "auc": roc_auc_score(labels, scores),
        "sensitivity": recall_score(labels, scores >= THRESHOLD),
        "specificity": recall_score(labels, scores >= THRESHOLD, pos_label=False),
    }
    now = found.measures()
    for name in OF_THE_MODEL:
        measure = now[name]
        assert measure is not None
        expected = measure.estimate - before[name]
        assert found.differences[name].estimate == pytest.approx(expected, abs=1e-9)
    # Fewer clear findings: sensitivity falls far, and specificity does not.
    assert found.differences["sensitivity"].p_fall(0.05) < 0.001
    assert found.differences["specificity"].p_fall(0.05) > 0.9


def test_a_fall_is_tested_against_its_margin() -> None:
    fall = Difference(estimate=-0.09, standard_error=0.02)
    assert fall.p_fall(0.05) == pytest.approx(ndtr(-2.0))
    assert Difference(estimate=0.0, standard_error=0.0).p_fall(0.05) == 1.0
    assert Difference(estimate=-0.1, standard_error=0.0).p_fall(0.05) == 0.0


def test_an_estimate_of_exactly_1_is_not_certain() -> None:
    reference = fitted(5)
    window = np.linspace(0.55, 0.95, 60)  # every scan is called positive
    found = told(
        estimate_under_covariate_shift(
            reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
        )
    )
    expected = float(reference.probabilities(window).sum())
    assert found.sensitivity.estimate == 1.0
    assert found.sensitivity.interval.low == pytest.approx(
        wilson(expected, expected, level=LEVEL).low
    )
    assert found.npv is None


def test_many_scores_beyond_the_references_are_not_estimated() -> None:
    reference = fitted(6)
    window = np.concatenate([reference.scores[:88], np.full(12, 1.0)])
    found = estimate_under_covariate_shift(
        reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
    )
    assert "12% of the scores lie beyond" in reason(found)


def test_scores_that_could_hold_much_of_a_class_are_not_estimated() -> None:
    rng = np.random.default_rng(13)
    scores = rng.uniform(0.3, 0.7, size=800)  # the lowest of them still means a third
    reference = CalibratedReference.fit(scores, rng.random(800) < scores, seed=0)
    window = np.concatenate([scores[:95], np.full(5, 0.05)])
    found = estimate_under_covariate_shift(
        reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
    )
    # Five scans of up to .3 each, out of about fifty with the finding.
    assert "could stand for 3% of a class" in reason(found)


def test_scores_that_cannot_be_calibrated_are_not_estimated() -> None:
    rng = np.random.default_rng(7)
    scores = rng.random(1500)
    # The finding is frequent below the threshold, rare right above it, then frequent again.
    meaning = np.where(scores < 0.5, 0.1 + scores, np.where(scores < 0.75, 0.1, 0.95))
    reference = CalibratedReference.fit(scores, rng.random(1500) < meaning, seed=0)
    found = estimate_under_covariate_shift(
        reference, scores[:200], threshold=THRESHOLD, level=LEVEL, seed=0
    )
    assert "cannot be calibrated" in reason(found)


def test_a_window_without_findings_is_not_estimated() -> None:
    reference = fitted(8)
    window = np.sort(reference.scores)[:40]
    found = estimate_under_covariate_shift(
        reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
    )
    assert "scans with the finding are expected" in reason(found)


def test_a_window_with_more_of_one_kind_is_estimated_by_where_its_scans_lie() -> None:
    rng = np.random.default_rng(22)

    def kinds(scans: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        second = rng.random(scans) < share
        vectors = rng.normal(size=(scans, 12)).astype(np.float32)
        vectors[:, 0] += np.where(second, 3.0, -3.0)
        margin = 1.5 * rng.normal(size=scans)
        truth = rng.random(scans) < expit(margin + np.where(second, -1.2, 1.2))
        return exaggerated(margin), truth, vectors

    scores, labels, vectors = kinds(1500, 0.5)
    window, truth, window_vectors = kinds(3000, 0.95)
    called = window >= THRESHOLD
    located = told(
        estimate_under_covariate_shift(
            CalibratedReference.fit(scores, labels, vectors=vectors, seed=0),
            window,
            vectors=window_vectors,
            threshold=THRESHOLD,
            level=LEVEL,
            seed=0,
        )
    )
    alone = told(
        estimate_under_covariate_shift(
            CalibratedReference.fit(scores, labels, seed=0),
            window,
            threshold=THRESHOLD,
            level=LEVEL,
            seed=0,
        )
    )
    precision = truth[called].mean()
    assert located.ppv is not None
    assert alone.ppv is not None
    assert precision in located.ppv.interval
    assert alone.ppv.interval.low > precision + 0.05


# Label shift


def test_under_label_shift_predictive_values_are_held_as_often_as_declared() -> None:
    rng, times, prevalence = np.random.default_rng(9), 40, 0.15
    sensitivity = specificity = float(ndtr(1.0))
    alarms = (1 - prevalence) * (1 - specificity)
    passes = (1 - prevalence) * specificity
    truth = {
        "ppv": prevalence * sensitivity / (prevalence * sensitivity + alarms),
        "npv": passes / (passes + prevalence * (1 - sensitivity)),
        "prevalence": prevalence,
        "sensitivity": sensitivity,
    }
    missed, unexplained = dict.fromkeys(truth, 0), 0
    for number in range(times):
        reference = CalibratedReference.fit(*under_label_shift(rng, 300, 0.5), seed=number)
        window, _ = under_label_shift(rng, 150, prevalence)
        found = estimate_under_label_shift(
            reference, window, threshold=THRESHOLD, level=LEVEL, seed=number
        )
        if isinstance(found, NoEstimate):
            unexplained += 1
            continue
        measures = found.measures()
        for name, value in truth.items():
            measure = measures[name]
            assert measure is not None
            missed[name] += value not in measure.interval
    assert max(missed.values()) <= binom.ppf(0.999, times, 1 - LEVEL), missed
    assert unexplained <= binom.ppf(0.999, times, 0.05)


def test_under_label_shift_the_model_is_as_on_the_reference() -> None:
    rng = np.random.default_rng(20)
    scores, labels = under_label_shift(rng, 500, 0.5)
    reference = CalibratedReference.fit(scores, labels, seed=0)
    window, _ = under_label_shift(rng, 400, 0.2)
    found = told(
        estimate_under_label_shift(reference, window, threshold=THRESHOLD, level=LEVEL, seed=0)
    )
    assert found.assumption is Assumption.LABEL_SHIFT
    assert found.auc.estimate == pytest.approx(roc_auc_score(labels, scores))
    of_the_ill = proportion(scores[labels] >= THRESHOLD, level=LEVEL)
    assert found.sensitivity.interval == of_the_ill.interval
    assert all(change.p_fall(0.0) == 1.0 for change in found.differences.values())


def test_an_expected_matrix_is_wrong_under_label_shift_by_far() -> None:
    rng = np.random.default_rng(21)
    reference = CalibratedReference.fit(*under_label_shift(rng, 2000, 0.5), seed=0)
    window, labels = under_label_shift(rng, 2000, 0.1)
    wrong = told(
        estimate_under_covariate_shift(
            reference, window, threshold=THRESHOLD, level=LEVEL, seed=0
        )
    )
    right = told(
        estimate_under_label_shift(reference, window, threshold=THRESHOLD, level=LEVEL, seed=0)
    )
    assert right.prevalence.estimate == pytest.approx(labels.mean(), abs=0.03)
    assert wrong.prevalence.estimate > labels.mean() + 0.07
    assert wrong.sensitivity.estimate < float(ndtr(1.0)) - 0.1


def test_scores_of_less_contrast_have_no_predictive_values() -> None:
    rng = np.random.default_rng(12)
    reference = CalibratedReference.fit(*under_label_shift(rng, 600, 0.5), seed=0)
    margin = np.where(rng.random(400) < 0.5, 1.0, -1.0) + rng.normal(size=400)
    found = estimate_under_label_shift(
        reference, expit(0.4 * margin), threshold=THRESHOLD, level=LEVEL, seed=0
    )
    assert "no prevalence explains the scores" in reason(found)


def test_the_share_called_positive_is_what_is_seen() -> None:
    scores = np.array([0.1, 0.5, 0.5, 0.7, 0.2, 0.9])
    patients = [1, 1, 2, 2, 3, 3]
    found = called_positive(scores, patients, threshold=THRESHOLD, level=LEVEL)
    expected = proportion(scores >= THRESHOLD, patients, level=LEVEL)
    assert found.estimate == pytest.approx(4 / 6)
    assert found.interval == expected.interval
