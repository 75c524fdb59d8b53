"""What gates promise of a candidate in use, by what the drift had done to each measure."""

from __future__ import annotations

import numpy as np
import pytest

from retrain.gates import promises
from retrain.gates.classes import Finding
from retrain.gates.evaluation import Evidence, evaluate
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.limits import GateLimits
from retrain.gates.measures import Measure
from retrain.gates.outcome import Gate
from retrain.gates.promises import Promise


@pytest.fixture
def evidence(simulation) -> Evidence:
    rng = np.random.default_rng(0)
    return Evidence(
        drifted=simulation(champion=(0.92, 0.5)).draw(rng),
        reference=simulation(positives=365, negatives=135, correlation=0.95).draw(rng),
        impact=MeasuredImpact(
            sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST
        ),
        trained_on=frozenset(),
        parity=ParityMeasurement(max_abs_error=1e-5, scans=16),
    )


def by_measure(found: list[Promise]) -> dict[Measure, Promise]:
    return {one.measure: one for one in found}


def test_non_inferiority_promises_the_champion_less_its_margin(
    evidence: Evidence, limits: GateLimits
) -> None:
    report = evaluate((Gate.NON_INFERIORITY,), evidence, limits)
    kept = by_measure(promises.read(report.of(Gate.NON_INFERIORITY).as_record()))
    reference = evidence.reference
    sick = reference.truth
    share = float(reference.champion_calls[sick].mean())
    sensitivity = kept[Measure.SENSITIVITY]
    assert sensitivity.measured.estimate == pytest.approx(share)
    assert sensitivity.limit == pytest.approx(share - 0.05)
    assert kept[Measure.SPECIFICITY].margin == 0.10


def test_what_was_lost_is_held_to_the_candidate_s_own(
    evidence: Evidence, limits: GateLimits
) -> None:
    report = evaluate((Gate.SUPERIORITY,), evidence, limits)
    kept = by_measure(promises.read(report.of(Gate.SUPERIORITY).as_record()))
    drifted = evidence.drifted
    well = ~drifted.truth
    assert kept[Measure.SPECIFICITY].measured.estimate == pytest.approx(
        float((~drifted.candidate_calls)[well].mean())
    )
    assert kept[Measure.SENSITIVITY].measured.estimate == pytest.approx(
        float(drifted.champion_calls[drifted.truth].mean())
    )
    assert kept[Measure.SENSITIVITY].of == "the champion before it where it drifted"


def test_what_was_gained_is_held_to_the_reference(
    evidence: Evidence, limits: GateLimits
) -> None:
    finding = Finding(
        drifted=evidence.drifted,
        reference=evidence.reference,
        impact=MeasuredImpact(
            sensitivity=Change.GAINED, specificity=Change.LOST, auc=Change.LOST
        ),
    )
    kept = by_measure(promises.where_it_drifted(finding, limits))
    assert kept[Measure.SENSITIVITY].of == "the champion before it on the reference"
    assert kept[Measure.SENSITIVITY].margin == limits.drifted_margins.sensitivity


def test_a_gate_that_does_not_pass_promises_nothing(
    evidence: Evidence, limits: GateLimits, simulation
) -> None:
    worse = simulation(candidate=(0.5, 0.5)).draw(np.random.default_rng(1))
    failed = evaluate(
        (Gate.NON_INFERIORITY,),
        Evidence(
            drifted=evidence.drifted,
            reference=worse,
            impact=evidence.impact,
            trained_on=frozenset(),
            parity=None,
        ),
        limits,
    )
    assert promises.read(failed.of(Gate.NON_INFERIORITY).as_record()) == []


def test_a_first_version_is_held_to_itself_and_a_record_is_read_back(
    evidence: Evidence, limits: GateLimits
) -> None:
    kept = promises.of_first_version(evidence.reference.of_candidate, limits)
    assert [one.of for one in kept] == ["the version on the reference"] * 2
    record = {"figures": promises.recorded(kept)}
    assert promises.read(record) == kept
    assert promises.read({"estimate": 0.9}) == []
