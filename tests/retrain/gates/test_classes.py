from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from registry.errors import BadInputError
from retrain.gates.classes import Finding, PairedClasses, every_class
from retrain.gates.evaluation import Evidence, evaluate
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.limits import RobustnessLimits
from retrain.gates.outcome import Gate, Outcome
from retrain.gates.performance import superiority_in_findings
from retrain.gates.results import AiInfluence

CLASSES = ("normal", "bacterial", "viral")
KEPT = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.KEPT)
LOST = replace(KEPT, specificity=Change.LOST)


def classes(
    *, scans: int = 900, worse_in: int | None = None, shares=(0.4, 0.35, 0.25), seed: int = 0
) -> PairedClasses:
    """Draw two models that know three classes about as well, or one of them less."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=scans, p=shares)
    signal = 2.5 * np.eye(3)[truth]
    first = signal + rng.normal(size=(scans, 3))
    second = 0.97 * (first - signal) + 0.24 * rng.normal(size=(scans, 3)) + signal
    if worse_in is not None:
        second[truth == worse_in, worse_in] -= 1.0
    return PairedClasses(
        classes=CLASSES,
        champion=softmax(first, axis=1),
        candidate=softmax(second, axis=1),
        truth=truth,
        patients=np.array([f"p{index}" for index in range(scans)]),
        influence=(AiInfluence.NONE,) * scans,
    )


def test_an_equal_candidate_passes_in_every_class_and_on_average(limits) -> None:
    gate = every_class(classes(), limits=limits)
    assert gate.outcome is Outcome.PASSED
    assert [part.name.removeprefix("every_class/") for part in gate.parts] == [
        *(
            f"{name}/{measure}"
            for name in CLASSES
            for measure in ("sensitivity", "specificity")
        ),
        "mean of classes/sensitivity",
        "mean of classes/AUC",
    ]


def test_one_class_read_worse_is_named(limits) -> None:
    gate = every_class(classes(worse_in=2), limits=limits)
    assert gate.outcome is Outcome.FAILED
    failed = [part.name for part in gate.parts if part.outcome is Outcome.FAILED]
    assert failed[0] == "every_class/viral/sensitivity"
    assert "Sensitivity for class viral: candidate" in gate.sentence


def test_a_class_of_few_patients_is_not_evaluable(limits) -> None:
    gate = every_class(classes(shares=(0.6, 0.38, 0.02)), limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "for class viral rests on" in gate.sentence


def test_a_task_of_one_finding_has_no_classes(limits) -> None:
    assert every_class(None, limits=limits).outcome is Outcome.NOT_EVALUABLE


def test_the_positive_class_is_judged_as_any_finding(limits) -> None:
    several = classes()
    of = several.of("bacterial", champion_threshold=0.4, candidate_threshold=0.3, subgroups={})
    assert of.truth.tolist() == (several.truth == 1).tolist()
    assert of.candidate.tolist() == several.candidate[:, 1].tolist()
    with pytest.raises(BadInputError, match="no class 'fungal'"):
        several.of("fungal", champion_threshold=0.4, candidate_threshold=0.3, subgroups={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": CLASSES[:2]}, "shape"),
        ({"champion": np.full((900, 3), 0.5)}, "sum to 1"),
        ({"truth": np.full(900, 3)}, "whole numbers from 0 to 2"),
        ({"classes": ("a", "a", "b")}, "each named once"),
    ],
)
def test_classes_that_contradict_themselves_cannot_exist(change, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        replace(classes(), **change)


@pytest.fixture
def findings(simulation) -> dict[str, Finding]:
    rng = np.random.default_rng(1)
    reference = simulation(positives=365, negatives=200, correlation=0.97).draw(rng)
    lost = simulation(positives=300, negatives=200, champion=(0.92, 0.5)).draw(rng)
    kept = simulation(positives=300, negatives=200, correlation=0.97).draw(rng)
    return {
        "": Finding(drifted=lost, reference=reference, impact=LOST),
        "effusion": Finding(drifted=kept, reference=reference, impact=KEPT),
    }


def test_a_repair_of_one_finding_passes_where_no_other_became_inferior(
    findings, limits
) -> None:
    gate = superiority_in_findings(findings, limits=limits)
    assert gate.outcome is Outcome.PASSED
    assert len(gate.parts) == 6
    assert "superiority_where_it_drifted/effusion/AUC" in [part.name for part in gate.parts]


def test_a_repair_of_one_finding_at_the_cost_of_another_is_refused(
    simulation, findings, limits
) -> None:
    worse = simulation(positives=300, negatives=200, candidate=(0.70, 0.86)).draw(
        np.random.default_rng(2)
    )
    findings["effusion"] = replace(findings["effusion"], drifted=worse)
    gate = superiority_in_findings(findings, limits=limits)
    assert gate.outcome is Outcome.FAILED
    assert "Sensitivity of effusion where it drifted" in gate.sentence


def test_every_finding_of_a_task_passes_every_gate_on_performance(findings, limits) -> None:
    first, effusion = findings[""], findings["effusion"]
    influenced = replace(
        effusion.reference, influence=(AiInfluence.INFLUENCED,) * effusion.reference.scans
    )
    wild = replace(effusion.drifted, candidate=np.clip(effusion.drifted.candidate**4, 0, 1))
    evidence = Evidence(
        drifted=first.drifted,
        reference=first.reference,
        impact=first.impact,
        trained_on=frozenset({"t1"}),
        parity=ParityMeasurement(max_abs_error=1e-5, scans=4),
        further={"effusion": replace(effusion, reference=influenced, drifted=wild)},
    )
    report = evaluate(
        (Gate.NON_INFERIORITY, Gate.CALIBRATION, Gate.PROVENANCE), evidence, limits
    )
    assert len(report.of(Gate.NON_INFERIORITY).parts) == 6
    calibration = report.of(Gate.CALIBRATION)
    failed = {part.name for part in calibration.parts if part.outcome is Outcome.FAILED}
    assert any(name.startswith("calibration/effusion/drifted/") for name in failed)
    assert "effusion: Calibration" in calibration.sentence
    assert report.of(Gate.PROVENANCE).outcome is Outcome.FAILED


def test_what_was_reviewed_and_small_changes_are_judged_in_each_finding(
    findings, limits
) -> None:
    mass, effusion = findings[""], findings["effusion"]
    reference = effusion.reference
    missed = reference.truth & (np.arange(reference.scans) % 3 == 0)
    still = {"noise": mass.reference}
    shaken = {"noise": replace(reference, candidate=np.where(missed, 0.0, reference.candidate))}
    evidence = Evidence(
        finding="mass",
        drifted=mass.drifted,
        reference=mass.reference,
        impact=mass.impact,
        reviewed=("chest@1", mass.reference),
        changed=still,
        trained_on=frozenset({"t1"}),
        parity=None,
        further={"effusion": replace(effusion, reviewed=effusion.reference, changed=shaken)},
    )
    allowed = replace(
        limits, robustness=RobustnessLimits(sensitivity_margin=0.1, specificity_margin=0.1)
    )
    report = evaluate(
        (Gate.CUMULATIVE, Gate.ROBUSTNESS, Gate.NON_INFERIORITY), evidence, allowed
    )
    for gate in (Gate.CUMULATIVE, Gate.NON_INFERIORITY):
        judged = {part.name.split("/")[1] for part in report.of(gate).parts}
        assert judged == {"mass", "effusion"}
    robust = report.of(Gate.ROBUSTNESS)
    assert {part.name.split("/")[1] for part in robust.parts} == {"mass", "effusion"}
    failed = [part.name for part in robust.parts if part.outcome is Outcome.FAILED]
    assert failed == ["robustness/effusion/noise/sensitivity"]
    assert robust.sentence.startswith("effusion: ")
    promised = report.of(Gate.NON_INFERIORITY).figures["promised"]
    assert {one["finding"] for one in promised} == {"mass", "effusion"}


def test_a_finding_that_stands_twice_is_refused(findings) -> None:
    first = findings[""]
    with pytest.raises(BadInputError, match="stands twice"):
        Evidence(
            finding="effusion",
            drifted=first.drifted,
            reference=first.reference,
            impact=first.impact,
            trained_on=frozenset(),
            parity=None,
            further={"effusion": findings["effusion"]},
        )


def test_a_finding_that_is_rare_in_a_locked_set_is_named(findings, limits) -> None:
    strict = replace(limits, minimum_positives=10_000)
    gate = superiority_in_findings(findings, limits=strict)
    assert gate.outcome is Outcome.NOT_EVALUABLE
    named = superiority_in_findings({"effusion": findings["effusion"]}, limits=strict)
    assert "patients with effusion, and the plan asks for 10000" in named.sentence
