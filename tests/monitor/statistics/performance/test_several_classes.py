import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from monitor.statistics.performance.discrimination import compare_aucs
from monitor.statistics.performance.several_classes import (
    compare_macro_aucs,
    compare_macro_sensitivities,
)
from registry.errors import BadInputError, InsufficientDataError


def _models(seed: int, scans: int = 200, classes: int = 3, scans_of_a_patient: int = 1):
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, size=scans)
    signal = 1.5 * np.eye(classes)[truth]
    patients = np.arange(scans) // scans_of_a_patient
    first = softmax(signal + rng.normal(size=(scans, classes)), axis=1)
    second = softmax(signal + rng.normal(size=(scans, classes)), axis=1)
    return first, second, truth, patients


def test_averages_are_scikit_learns_with_and_without_weights() -> None:
    first, second, truth, _ = _models(0)
    for weights in (None, np.random.default_rng(1).choice([1.0, 4.0], size=200)):
        areas = compare_macro_aucs(first, second, truth, weights=weights, level=0.9)
        for found, scores in ((areas.first, first), (areas.second, second)):
            one_by_one = [
                roc_auc_score(truth == code, scores[:, code], sample_weight=weights)
                for code in range(3)
            ]
            assert found == pytest.approx(np.mean(one_by_one))
        rates = compare_macro_sensitivities(first, second, truth, weights=weights, level=0.9)
        assert rates.second == pytest.approx(
            balanced_accuracy_score(truth, second.argmax(axis=1), sample_weight=weights)
        )
    assert compare_macro_aucs(first, second, truth, level=0.9).first == pytest.approx(
        roc_auc_score(truth, first, multi_class="ovr", average="macro")
    )


def test_with_two_classes_it_is_the_comparison_of_areas() -> None:
    first, second, truth, _ = _models(2, classes=2)
    macro = compare_macro_aucs(first, second, truth, level=0.9)
    binary = compare_aucs(first[:, 1], second[:, 1], truth, level=0.9)
    assert macro.estimate == pytest.approx(binary.estimate)
    assert macro.standard_error == pytest.approx(binary.standard_error, rel=0.02)


@pytest.mark.parametrize("compare", [compare_macro_aucs, compare_macro_sensitivities])
@pytest.mark.parametrize("scans_of_a_patient", [1, 3])
def test_the_error_is_about_the_jackknifes_by_patient(compare, scans_of_a_patient: int) -> None:
    first, second, truth, patients = _models(
        3, scans=150, scans_of_a_patient=scans_of_a_patient
    )
    found = compare(first, second, truth, patients, level=0.9)
    count = patients.max() + 1
    left_out = []
    for patient in range(count):
        rows = patients != patient
        left_out.append(compare(first[rows], second[rows], truth[rows], level=0.9).estimate)
    jackknife = np.sqrt(
        (count - 1) / count * np.sum((np.array(left_out) - found.estimate) ** 2)
    )
    assert found.standard_error == pytest.approx(jackknife, rel=0.06)


@pytest.mark.parametrize("compare", [compare_macro_aucs, compare_macro_sensitivities])
def test_equals_are_told_apart_at_the_level(compare) -> None:
    rounds = 200
    rejected = sum(
        compare(*_models(100 + seed)[:3], level=0.9).p_greater(0.0) <= 0.05
        for seed in range(rounds)
    )
    assert rejected / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def test_a_model_and_its_copy_are_not_known_to_be_equal() -> None:
    first, _, truth, _ = _models(4)
    copy = compare_macro_aucs(first, first, truth, level=0.9)
    assert copy.estimate == 0.0
    assert copy.interval.low < 0.0 < copy.interval.high


def test_missing_classes_and_impossible_input_are_refused() -> None:
    first, second, truth, _ = _models(5)
    with pytest.raises(InsufficientDataError, match="scans of class 2"):
        compare_macro_aucs(first, second, np.minimum(truth, 1), level=0.9)
    with pytest.raises(BadInputError, match="shapes"):
        compare_macro_aucs(first[:, 0], second, truth, level=0.9)
    with pytest.raises(BadInputError, match="whole numbers"):
        compare_macro_aucs(first, second, truth + 1, level=0.9)
    with pytest.raises(BadInputError, match="NaN"):
        compare_macro_aucs(np.full_like(first, np.nan), second, truth, level=0.9)
    with pytest.raises(InsufficientDataError, match="patients"):
        compare_macro_aucs(first, second, truth, ["p"] * 200, level=0.9)
