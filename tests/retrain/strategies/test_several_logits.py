"""Heads of several logits: fitted as an independent library fits them, and calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from registry.bundles.heads import Task, TaskKind
from registry.errors import InsufficientDataError
from retrain.strategies.calibrating import operating_threshold
from retrain.strategies.curve import not_told
from retrain.strategies.heads import PENALTIES, standardised
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import Scans
from retrain.strategies.several_classes import SeveralClasses
from retrain.strategies.several_findings import SeveralFindings, common_threshold
from retrain.workspace import Role

CLASSES, FINDINGS = ("normal", "fluid", "mass"), ("fluid", "mass")
TRIAGE = SeveralClasses(
    Task(name="triage", kind=TaskKind.MULTI_CLASS, classes=CLASSES, positive="mass")
)
CHEST = SeveralFindings(Task(name="chest", kind=TaskKind.MULTI_LABEL, classes=FINDINGS))


def embeddings(count: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(count, 5)) * [1, 2, 3, 1, 1] + [0, 4, 0, 0, 1]).astype(np.float32)


def classed(count: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    values = embeddings(count, rng)
    chances = softmax(
        values @ np.array([[1, 0, -1], [0, 0.5, 0], [0, 0, 0.4]] + [[0] * 3] * 2), 1
    )
    drawn = (chances.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return Examples(embeddings=values, targets=drawn.astype(np.int64))


def found(count: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    values = embeddings(count, rng)
    chances = expit(values @ np.array([[1, 0], [0, 0.7], [0.3, 0], [0, 0], [0, 0]]) - [0.5, 3])
    return Examples(
        embeddings=values, targets=(rng.random((count, 2)) < chances).astype(np.int64)
    )


def scans(targets: np.ndarray, *, shifted: bool = True) -> Scans:
    count = len(targets)
    return Scans(
        pixels=np.empty((0, 3, 0, 0), dtype=np.float32),
        targets=targets,
        roles=np.full(count, Role.TRAINING, dtype=np.int8),
        shifted=np.full(count, shifted),
    )


def test_several_classes_are_fitted_as_multinomial_logistic_regression_is() -> None:
    training, selection = classed(400, 1), classed(200, 2)
    made = TRIAGE.refit({}, training, selection, tell=not_told)
    penalty = made.facts["penalty"]
    assert penalty in PENALTIES
    design, *_ = standardised(training.embeddings.astype(np.float64))
    oracle = LogisticRegression(C=1 / (penalty * 400), tol=1e-10, max_iter=5000)
    expected = oracle.fit(design, training.targets).predict_proba(design)
    logits = TRIAGE.margins(made.heads, training.embeddings)
    assert softmax(logits, axis=1) == pytest.approx(expected, abs=2e-3)


def test_each_finding_is_fitted_as_logistic_regression_fits_it_alone() -> None:
    training, selection = found(400, 3), found(200, 4)
    made = CHEST.refit({}, training, selection, tell=not_told)
    design, *_ = standardised(training.embeddings.astype(np.float64))
    logits = CHEST.margins(made.heads, training.embeddings)
    for column in range(len(FINDINGS)):
        oracle = LogisticRegression(
            C=1 / (made.facts["penalty"] * 400), tol=1e-10, max_iter=5000
        )
        expected = oracle.fit(design, training.targets[:, column]).decision_function(design)
        # The calibration that follows scales a finding's logits and moves none.
        slope = np.polyfit(expected, logits[:, column], 1)
        assert logits[:, column] == pytest.approx(np.polyval(slope, expected), abs=0.02)
        assert np.polyval(slope, 0.0) == pytest.approx(0.0, abs=0.02)


def test_classes_that_were_scaled_and_moved_are_recalibrated_to_what_they_mean() -> None:
    rng = np.random.default_rng(5)
    honest = rng.normal(size=(4000, 3)) * 1.5
    chances = softmax(honest, axis=1)
    drawn = (chances.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1).astype(np.int64)
    # As a shift leaves them: too extreme, and the third class too likely.
    margins = 2.5 * (honest - [0.0, 0.0, -0.8])
    heads = {
        "triage.weight": np.zeros((3, 4), dtype=np.float32),
        "triage.bias": np.zeros(3, dtype=np.float32),
    }
    made = TRIAGE.recalibrated(heads, margins, scans(drawn))
    assert made.calibration.temperature == pytest.approx(2.5, rel=0.08)
    moved = made.heads["triage.bias"] / 2.5
    assert moved[2] - moved[0] == pytest.approx(-0.8, abs=0.12)
    read = softmax(made.margins / made.calibration.temperature, axis=1)
    assert read == pytest.approx(chances, abs=0.05)


def test_findings_are_recalibrated_one_by_one_in_their_rows_of_the_head() -> None:
    rng = np.random.default_rng(6)
    honest = rng.normal(size=(4000, 2)) * 1.5
    holds = (rng.random((4000, 2)) < expit(honest)).astype(np.int64)
    margins = honest * [3.0, 0.5] + [1.0, 0.0]
    heads = {
        "chest.weight": np.ones((2, 4), dtype=np.float32),
        "chest.bias": np.array([1.0, 0.0], dtype=np.float32),
    }
    made = CHEST.recalibrated(heads, margins, scans(holds))
    assert made.calibration.temperature == 1.0
    assert expit(made.margins) == pytest.approx(expit(honest), abs=0.05)
    assert made.heads["chest.weight"][:, 0] == pytest.approx([1 / 3.0, 2.0], rel=0.1)
    assert made.heads["chest.bias"] == pytest.approx([0.0, 0.0], abs=0.1)


def test_without_labels_of_the_shift_several_classes_are_not_recalibrated() -> None:
    training = classed(60, 7)
    heads = {
        "triage.weight": np.zeros((3, 5), dtype=np.float32),
        "triage.bias": np.zeros(3, dtype=np.float32),
    }
    margins = TRIAGE.margins(heads, training.embeddings)
    with pytest.raises(InsufficientDataError, match="recalibrated by nothing else"):
        TRIAGE.recalibrated(heads, margins, scans(training.targets, shifted=False))


def test_a_missing_class_or_finding_is_named() -> None:
    training = classed(60, 8)
    with pytest.raises(InsufficientDataError, match="training scans of class mass"):
        TRIAGE.require_every_class(np.minimum(training.targets, 1), what="training scans")
    holds = found(60, 9).targets
    holds[:, 1] = 0
    with pytest.raises(InsufficientDataError, match="selection scans with mass"):
        CHEST.require_every_class(holds, what="selection scans")


def test_labels_that_no_error_bounds_leave_the_spread_of_logits_as_it_was() -> None:
    targets = np.arange(60, dtype=np.int64) % 3
    margins = 4.0 * np.eye(3)[targets]
    heads = {
        "triage.weight": np.zeros((3, 2), dtype=np.float32),
        "triage.bias": np.zeros(3, dtype=np.float32),
    }
    made = TRIAGE.recalibrated(heads, margins, scans(targets))
    assert made.calibration.temperature == pytest.approx(1.0)
    assert made.heads["triage.bias"] == pytest.approx([0.0] * 3, abs=1e-3)


def test_one_threshold_for_a_single_finding_is_the_operating_point() -> None:
    rng = np.random.default_rng(10)
    said = rng.normal(-0.5, 1.5, size=500)
    holds = (rng.random(500) < expit(said)).astype(np.int64)
    expected = operating_threshold(said, holds, temperature=1.0)
    ranked = np.sort(expit(said))
    above = int(np.searchsorted(ranked, expected))
    chosen = common_threshold(said[:, None], holds[:, None])
    assert ranked[above - 1] <= chosen <= ranked[above]


def test_one_threshold_for_several_findings_is_the_best_of_all_there_are() -> None:
    rng = np.random.default_rng(11)
    said = rng.normal([-1.0, 0.5], 1.5, size=(4000, 2))
    holds = (rng.random((4000, 2)) < expit(said)).astype(np.int64)
    chosen = common_threshold(said, holds)

    def gain(threshold: float) -> float:
        called = expit(said) >= threshold
        right = [
            called[holds[:, one] == 1, one].mean() + (~called[holds[:, one] == 0, one]).mean()
            for one in range(2)
        ]
        return float(np.mean(right))

    best = max(gain(one) for one in np.linspace(0.05, 0.95, 181))
    assert gain(chosen) == pytest.approx(best, abs=0.01)
