import json
from dataclasses import replace

import numpy as np
import pytest

from registry.canonical import canonical_bytes
from registry.errors import BadInputError
from retrain.gates.evaluation import Evidence, evaluate
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.outcome import Gate, Outcome, gravest
from retrain.gates.results import AiInfluence

FOR_A_START = (
    Gate.SUPERIORITY,
    Gate.NON_INFERIORITY,
    Gate.PARITY,
    Gate.PATIENTS,
    Gate.PROVENANCE,
)


@pytest.fixture
def evidence(simulation) -> Evidence:
    rng = np.random.default_rng(0)
    return Evidence(
        drifted=simulation(champion=(0.92, 0.5)).draw(rng),
        reference=simulation(positives=365, negatives=135, correlation=0.95).draw(rng),
        impact=MeasuredImpact(
            sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST
        ),
        trained_on=frozenset({"t1", "t2"}),
        parity=ParityMeasurement(max_abs_error=1e-5, scans=16),
    )


def test_a_candidate_that_passes_every_gate_passes(evidence, limits) -> None:
    report = evaluate(FOR_A_START, evidence, limits)
    assert report.verdict is Outcome.PASSED
    assert report.sentence == "The candidate passed all 5 gates."
    assert [outcome.name for outcome in report.outcomes] == list(FOR_A_START)
    assert report.of(Gate.PARITY).estimate == 1e-5


@pytest.mark.parametrize(
    ("poison", "gate"),
    [
        (lambda one: {"trained_on": frozenset({"p7"})}, Gate.PATIENTS),
        (lambda one: {"parity": ParityMeasurement(max_abs_error=0.5, scans=16)}, Gate.PARITY),
        (
            lambda one: {
                "reference": replace(
                    one.reference, influence=(AiInfluence.UNKNOWN,) * one.reference.scans
                )
            },
            Gate.PROVENANCE,
        ),
        (
            lambda one: {"drifted": replace(one.drifted, candidate=one.drifted.champion)},
            Gate.SUPERIORITY,
        ),
        (
            lambda one: {
                "reference": replace(one.reference, candidate=np.full(one.reference.scans, 0.9))
            },
            Gate.NON_INFERIORITY,
        ),
    ],
)
def test_each_poison_is_refused_by_its_own_gate(evidence, limits, poison, gate: Gate) -> None:
    report = evaluate(FOR_A_START, replace(evidence, **poison(evidence)), limits)
    assert report.verdict is Outcome.FAILED
    assert [one.name for one in report.outcomes if one.outcome is Outcome.FAILED] == [gate]
    assert report.sentence == f"The candidate is refused by: {gate}."


def test_what_cannot_be_decided_is_no_pass(evidence, limits) -> None:
    report = evaluate(FOR_A_START, replace(evidence, parity=None), limits)
    assert report.verdict is Outcome.NOT_EVALUABLE
    assert report.sentence.endswith("cannot decide: parity.")


def test_every_gate_is_within_reach_of_a_plan_and_recorded_as_canonical_json(
    evidence, limits
) -> None:
    report = evaluate(tuple(Gate), evidence, limits)
    record = json.loads(canonical_bytes(report.as_record()))
    assert [gate["name"] for gate in record["gates"]] == [gate.value for gate in Gate]
    assert record["verdict"] == report.verdict.value
    assert record["limits"]["parity_tolerance"] == 1e-3
    assert "intersection-union" in record["multiplicity"]
    first = record["gates"][0]
    assert first["parts"][0]["interval"]["level"] == pytest.approx(0.95)
    assert set(first) == set(first["parts"][0])
    assert evaluate(tuple(Gate), evidence, limits).as_record() == report.as_record()


def test_no_record_or_sentence_holds_a_pseudonym(evidence, limits) -> None:
    text = canonical_bytes(evaluate(tuple(Gate), evidence, limits).as_record()).decode()
    assert not any(f'"p{index}"' in text or f" p{index} " in text for index in range(500))


@pytest.mark.parametrize("gates", [(), (Gate.PARITY, Gate.PARITY)])
def test_no_gate_or_one_twice_is_refused(evidence, limits, gates: tuple[Gate, ...]) -> None:
    with pytest.raises(BadInputError, match="name each gate of the plan once"):
        evaluate(gates, evidence, limits)


def test_a_gate_that_was_not_asked_for_is_not_in_the_report(evidence, limits) -> None:
    report = evaluate((Gate.PARITY,), evidence, limits)
    with pytest.raises(BadInputError, match="not in this report"):
        report.of(Gate.CALIBRATION)


def test_gates_judge_one_operating_point(evidence) -> None:
    moved = replace(evidence.drifted, candidate_threshold=0.4)
    with pytest.raises(BadInputError, match="one operating point"):
        replace(evidence, drifted=moved)


def test_the_gravest_outcome_wins() -> None:
    passed, failed, open_ = Outcome.PASSED, Outcome.FAILED, Outcome.NOT_EVALUABLE
    assert gravest([passed, open_]) is open_
    assert gravest([open_, failed, passed]) is failed
    assert gravest([passed]) is passed
