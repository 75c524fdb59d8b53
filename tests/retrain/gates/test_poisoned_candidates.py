"""Candidates that should not pass, each refused by the gate that is there for it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from retrain.gates.evaluation import Evidence, evaluate
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.limits import Subgroup
from retrain.gates.outcome import Gate, Outcome
from retrain.gates.results import AiInfluence, PairedResults

SITES = ("north", "south", "west")
SPECIFICITY_LOST = MeasuredImpact(
    sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST
)
EVERYTHING = (
    Gate.SUPERIORITY,
    Gate.NON_INFERIORITY,
    Gate.CUMULATIVE,
    Gate.SUBGROUPS,
    Gate.CALIBRATION,
    Gate.ROBUSTNESS,
    Gate.PARITY,
    Gate.PATIENTS,
    Gate.PROVENANCE,
)


@pytest.fixture
def limits(limits):
    return replace(
        limits,
        subgroups=replace(
            limits.subgroups,
            declared=tuple(Subgroup(attribute="site", value=site) for site in SITES),
        ),
    )


def _calibrated(results: PairedResults) -> PairedResults:
    """Return candidates' probabilities that mean what they say, called as before."""
    # Normal scores of spread 1 around these means, of as many scans each: Bayes' rule.
    with_finding, without = norm.ppf(0.92), -norm.ppf(0.86)

    def meaning(score: np.ndarray | float) -> np.ndarray:
        return expit((with_finding - without) * (score - (with_finding + without) / 2))

    return replace(
        results,
        candidate=np.clip(meaning(logit(results.candidate)), 1e-6, 1 - 1e-6),
        candidate_threshold=float(meaning(0.0)),
    )


@pytest.fixture
def sound(simulation) -> Evidence:
    """A repair that every gate lets through."""
    rng = np.random.default_rng(4)
    attributes = {"site": SITES}
    drifted = _calibrated(
        simulation(
            positives=600, negatives=600, champion=(0.92, 0.5), attributes=attributes
        ).draw(rng)
    )
    reference = _calibrated(
        simulation(positives=600, negatives=600, correlation=0.97, attributes=attributes).draw(
            rng
        )
    )
    return Evidence(
        drifted=drifted,
        reference=reference,
        impact=SPECIFICITY_LOST,
        trained_on=frozenset({"t1", "t2"}),
        parity=ParityMeasurement(max_abs_error=1e-5, scans=16),
        changed={"noise": reference},
    )


def refused_by(evidence: Evidence, limits) -> list[str]:
    report = evaluate(EVERYTHING, evidence, limits)
    return [one.name for one in report.outcomes if one.outcome is not Outcome.PASSED]


def test_a_sound_repair_passes_everything(sound, limits) -> None:
    assert refused_by(sound, limits) == []


def test_better_overall_and_worse_at_one_site(sound, limits) -> None:
    drifted, rng = sound.drifted, np.random.default_rng(5)
    at_site = drifted.truth & (drifted.subgroups["site"] == "west")
    missed = at_site & (rng.random(drifted.scans) < 0.2)
    # Elsewhere it finds so much more that the whole looks better.
    found = drifted.truth & ~at_site
    candidate = np.where(missed, 0.02, np.where(found, 0.97, drifted.candidate))
    poisoned = replace(sound, drifted=replace(drifted, candidate=candidate))
    assert refused_by(poisoned, limits)[0] == Gate.SUBGROUPS
    gate = evaluate((Gate.SUPERIORITY, Gate.SUBGROUPS), poisoned, limits)
    assert gate.of(Gate.SUPERIORITY).outcome is Outcome.PASSED
    failed = [one for one in gate.of(Gate.SUBGROUPS).parts if one.outcome is Outcome.FAILED]
    assert [one.name for one in failed] == ["subgroups/site=west/drifted/sensitivity"]


def test_tuned_on_the_test_patients(sound, limits) -> None:
    poisoned = replace(sound, trained_on=frozenset({"t1", "p3"}))
    assert refused_by(poisoned, limits) == [Gate.PATIENTS]


def test_labels_that_an_ai_influenced_flip_the_verdict_and_are_refused(
    simulation, sound, limits
) -> None:
    rng = np.random.default_rng(6)
    # It repairs nothing: its specificity is the champion's.
    drawn = simulation(
        positives=600,
        negatives=600,
        champion=(0.92, 0.72),
        candidate=(0.92, 0.72),
        correlation=0.5,
        attributes={"site": SITES},
    ).draw(rng)
    drifted = _calibrated(drawn)
    honest = replace(sound, drifted=drifted)
    gates = (Gate.SUPERIORITY, Gate.PROVENANCE)
    assert evaluate(gates, honest, limits).of(Gate.SUPERIORITY).outcome is Outcome.FAILED
    # Readers who saw its result followed it in a fifth of the scans they would have read else.
    followed = (drifted.candidate_calls != drifted.truth) & (rng.random(drifted.scans) < 0.2)
    influenced = replace(
        drifted,
        truth=np.where(followed, drifted.candidate_calls, drifted.truth),
        influence=(AiInfluence.INFLUENCED,) * drifted.scans,
    )
    report = evaluate(gates, replace(sound, drifted=influenced), limits)
    assert report.of(Gate.SUPERIORITY).outcome is Outcome.PASSED
    assert report.of(Gate.PROVENANCE).outcome is Outcome.FAILED
    assert report.verdict is Outcome.FAILED


def test_calibrated_badly(sound, limits) -> None:
    def extreme(results: PairedResults) -> PairedResults:
        return replace(results, candidate=expit(4 * logit(results.candidate)))

    poisoned = replace(
        sound,
        drifted=extreme(sound.drifted),
        reference=extreme(sound.reference),
        changed={"noise": extreme(sound.reference)},
    )
    assert refused_by(poisoned, limits) == [Gate.CALIBRATION]


def test_another_network_in_onnx(sound, limits) -> None:
    poisoned = replace(sound, parity=ParityMeasurement(max_abs_error=0.02, scans=16))
    assert refused_by(poisoned, limits) == [Gate.PARITY]


def test_one_that_hangs_on_a_detail_of_the_acquisition(sound, limits) -> None:
    rng = np.random.default_rng(7)
    shaken = sound.changed["noise"]
    candidate = expit(logit(shaken.candidate) + 4 * rng.normal(size=shaken.scans))
    poisoned = replace(sound, changed={"noise": replace(shaken, candidate=candidate)})
    assert refused_by(poisoned, limits) == [Gate.ROBUSTNESS]


def test_small_steps_that_add_up(simulation, sound, limits) -> None:
    rng = np.random.default_rng(8)
    reference = simulation(
        positives=600, negatives=600, champion=(0.98, 0.86), attributes={"site": SITES}
    ).draw(rng)
    poisoned = replace(
        sound,
        reviewed=("pneumonia@1", replace(reference, candidate=sound.reference.candidate)),
    )
    assert refused_by(poisoned, limits) == [Gate.CUMULATIVE]
