"""Gates on labels that are a probability sample with unequal chances."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from retrain.gates.calibration import calibration
from retrain.gates.first_version import first_version_auc
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.outcome import Outcome
from retrain.gates.performance import non_inferiority_on_reference, superiority_where_it_drifted
from retrain.gates.results import PairedResults
from retrain.gates.subgroups import subgroups

LOST = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST)


def _labelled(whole: PairedResults, chance: np.ndarray, rng: np.random.Generator):
    """Return what is labelled of all scans, with its weights."""
    rows = np.flatnonzero(rng.random(whole.scans) < chance)
    return PairedResults(
        champion=whole.champion[rows],
        candidate=whole.candidate[rows],
        champion_threshold=whole.champion_threshold,
        candidate_threshold=whole.candidate_threshold,
        truth=whole.truth[rows],
        patients=whole.patients[rows],
        influence=tuple(whole.influence[row] for row in rows),
        subgroups={name: values[rows] for name, values in whole.subgroups.items()},
        weights=1.0 / chance[rows],
    )


def _near_the_threshold(results: PairedResults) -> np.ndarray:
    return np.where(np.abs(logit(results.candidate)) < 0.7, 0.8, 0.2)


def test_equal_weights_are_none(simulation) -> None:
    results = simulation().draw(np.random.default_rng(0))
    weighted = replace(results, weights=np.full(results.scans, 3.0))
    assert weighted.weights is None


def test_weights_reach_every_figure_of_a_gate(simulation, limits) -> None:
    rng = np.random.default_rng(1)
    whole = simulation(positives=1500, negatives=1500, champion=(0.92, 0.6)).draw(rng)
    labelled = _labelled(whole, _near_the_threshold(whole), rng)
    plain = replace(labelled, weights=None)
    arguments = {"reference": labelled, "impact": LOST, "limits": limits}
    by_weight = [
        superiority_where_it_drifted(labelled, **arguments),
        non_inferiority_on_reference(labelled, limits=limits),
        subgroups(labelled, **arguments),
        calibration(labelled, reference=labelled, limits=limits),
    ]
    arguments["reference"] = plain
    by_count = [
        superiority_where_it_drifted(plain, **arguments),
        non_inferiority_on_reference(plain, limits=limits),
        subgroups(plain, **arguments),
        calibration(plain, reference=plain, limits=limits),
    ]
    for weighted, counted in zip(by_weight, by_count, strict=True):
        for one, other in zip(weighted.parts, counted.parts, strict=True):
            assert one.estimate != other.estimate, one.name
    assert "weighted by inverse inclusion" in by_weight[0].statistic
    area = first_version_auc(labelled.of_candidate, floor=0.5).estimate
    assert area == pytest.approx(
        first_version_auc(whole.of_candidate, floor=0.5).estimate, abs=0.02
    )
    assert area > first_version_auc(plain.of_candidate, floor=0.5).estimate + 0.05


def test_a_subgroup_keeps_its_scans_weights(simulation) -> None:
    rng = np.random.default_rng(2)
    whole = simulation().draw(rng)
    labelled = replace(whole, weights=rng.choice([1.0, 2.0], size=whole.scans))
    inside = labelled.within("sex", "F")
    expected = labelled.weights[::2]
    assert inside.weights / inside.weights[0] == pytest.approx(expected / expected[0])


def test_few_patients_of_much_weight_are_not_evaluable(simulation, limits) -> None:
    results = simulation(positives=40, negatives=200).draw(np.random.default_rng(3))
    weights = np.ones(results.scans)
    weights[:4] = 20.0
    gate = non_inferiority_on_reference(replace(results, weights=weights), limits=limits)
    assert non_inferiority_on_reference(results, limits=limits).parts
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "holds 8 patients with the finding" in gate.sentence


def test_superiority_of_an_equal_candidate_holds_its_alpha_with_weights(
    simulation, limits
) -> None:
    rng = np.random.default_rng(4)
    whole = simulation(
        positives=900, negatives=900, champion=(0.92, 0.7), candidate=(0.92, 0.7)
    )
    reference = simulation(positives=365, negatives=135).draw(rng)
    rounds, claims = 120, 0
    for _ in range(rounds):
        drawn = whole.draw(rng)
        gate = superiority_where_it_drifted(
            _labelled(drawn, _near_the_threshold(drawn), rng),
            reference=reference,
            impact=LOST,
            limits=limits,
        )
        claims += gate.parts[0].outcome is Outcome.PASSED
    assert claims / rounds <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / rounds)
