import math

import pytest

from registry.errors import BadInputError
from retrain.gates.integrity import (
    ParityMeasurement,
    label_provenance,
    no_patient_on_both_sides,
    parity,
)
from retrain.gates.outcome import Outcome
from retrain.gates.results import AiInfluence


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (0.0, Outcome.PASSED),
        (1e-3, Outcome.PASSED),
        (1.001e-3, Outcome.FAILED),
        (math.nan, Outcome.FAILED),
        (math.inf, Outcome.FAILED),
    ],
)
def test_parity_is_held_against_its_tolerance(limits, error: float, outcome: Outcome) -> None:
    gate = parity(ParityMeasurement(max_abs_error=error, scans=16), limits=limits)
    assert gate.outcome is outcome
    assert (gate.margin, gate.n) == (1e-3, 16)
    assert gate.estimate == (error if math.isfinite(error) else None)


def test_parity_that_nobody_measured_is_not_evaluable(limits) -> None:
    assert parity(None, limits=limits).outcome is Outcome.NOT_EVALUABLE
    unmeasured = ParityMeasurement(max_abs_error=0.0, scans=0)
    assert parity(unmeasured, limits=limits).outcome is Outcome.NOT_EVALUABLE
    with pytest.raises(BadInputError):
        ParityMeasurement(max_abs_error=-1.0, scans=3)


def test_one_shared_patient_is_refused_and_never_named() -> None:
    gate = no_patient_on_both_sides({"ab12", "cd34"}, locked={"cd34", "ef56", "0078"})
    assert gate.outcome is Outcome.FAILED
    assert (gate.estimate, gate.n) == (1.0, 3)
    assert "1 of 3 patients" in gate.sentence
    assert "cd34" not in gate.sentence


def test_disjoint_patients_pass() -> None:
    assert no_patient_on_both_sides({"a"}, locked={"b"}).outcome is Outcome.PASSED


@pytest.mark.parametrize(("trained_on", "locked"), [(set(), {"a"}), ({"a"}, set())])
def test_an_unknown_side_is_not_evaluable(trained_on: set[str], locked: set[str]) -> None:
    gate = no_patient_on_both_sides(trained_on, locked=locked)
    assert gate.outcome is Outcome.NOT_EVALUABLE


@pytest.mark.parametrize("bad", [AiInfluence.INFLUENCED, AiInfluence.UNKNOWN])
def test_one_label_that_an_ai_could_have_moved_is_refused(bad: AiInfluence) -> None:
    gate = label_provenance([AiInfluence.NONE] * 99 + [bad])
    assert gate.outcome is Outcome.FAILED
    assert (gate.estimate, gate.n) == (1.0, 100)


def test_labels_given_without_an_ai_pass_and_none_are_not_evaluable() -> None:
    assert label_provenance([AiInfluence.NONE] * 3).outcome is Outcome.PASSED
    assert label_provenance([]).outcome is Outcome.NOT_EVALUABLE
