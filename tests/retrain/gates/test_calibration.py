from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from retrain.gates.calibration import calibration
from retrain.gates.outcome import Outcome
from retrain.gates.results import PairedResults


@pytest.fixture
def honest() -> PairedResults:
    rng = np.random.default_rng(0)
    probabilities = expit(1.0 + 2.0 * rng.normal(size=500))
    return PairedResults(
        champion=probabilities,
        candidate=probabilities,
        champion_threshold=0.5,
        candidate_threshold=0.5,
        truth=rng.random(500) < probabilities,
        patients=np.array([f"p{index}" for index in range(500)]),
        influence=("none",) * 500,
        subgroups={},
    )


def test_honest_probabilities_pass_on_both_sets(honest, limits) -> None:
    gate = calibration(honest, reference=honest, limits=limits)
    assert gate.outcome is Outcome.PASSED
    assert [part.name for part in gate.parts] == [
        f"calibration/{which}/{what}"
        for which in ("drifted", "reference")
        for what in ("intercept", "slope", "error")
    ]
    assert "shown to be within 0.6 to 1.6." in gate.parts[1].sentence


@pytest.mark.parametrize(
    ("distortion", "fails"),
    [
        (lambda log_odds: 2.5 * log_odds, "slope"),
        (lambda log_odds: 0.5 * log_odds, "slope"),
        (lambda log_odds: log_odds - 1.2, "intercept"),
        (lambda log_odds: log_odds - 1.2, "error"),
    ],
)
def test_distorted_probabilities_are_refused_by_what_they_break(
    honest, limits, distortion, fails: str
) -> None:
    distorted = replace(honest, candidate=expit(distortion(logit(honest.candidate))))
    gate = calibration(honest, reference=distorted, limits=limits)
    assert gate.outcome is Outcome.FAILED
    failed = [part.name for part in gate.parts if part.outcome is Outcome.FAILED]
    assert f"calibration/reference/{fails}" in failed
    assert not any("drifted" in name for name in failed)
    assert "not shown to be" in gate.sentence


def test_only_the_candidates_calibration_counts(honest, limits) -> None:
    distorted = replace(honest, champion=np.full(500, 0.9))
    assert calibration(distorted, reference=honest, limits=limits).outcome is Outcome.PASSED


def test_what_few_scans_cannot_show_does_not_pass(honest, limits) -> None:
    few = replace(
        honest,
        **{
            name: getattr(honest, name)[:120]
            for name in ("champion", "candidate", "truth", "patients", "influence")
        },
    )
    gate = calibration(few, reference=honest, limits=limits)
    assert gate.outcome is Outcome.FAILED


def test_separated_classes_have_no_slope_and_are_not_evaluable(honest, limits) -> None:
    perfect = replace(honest, candidate=np.where(honest.truth, 0.99, 0.01))
    gate = calibration(perfect, reference=honest, limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "has no slope" in gate.sentence
    assert gate.parts[1].name == "calibration/drifted/error"


def test_a_set_without_the_finding_is_not_evaluable(honest, limits) -> None:
    healthy = replace(honest, truth=np.zeros(500))
    gate = calibration(healthy, reference=honest, limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "holds 0 patients with the finding" in gate.sentence


def test_the_record_holds_the_points_of_the_curve(simulation, limits) -> None:
    results = simulation(positives=300, negatives=300).draw(np.random.default_rng(0))
    gate = calibration(results, reference=results, limits=limits)
    [error] = [part for part in gate.parts if part.name == "calibration/drifted/error"]
    curve = error.as_record()["figures"]["curve"]
    assert len(curve) == limits.calibration.bins
    assert sum(point["scans"] for point in curve) == 600
    predicted = [point["predicted"] for point in curve]
    assert predicted == sorted(predicted)
    assert all(point["low"] <= point["observed"] <= point["high"] for point in curve)
