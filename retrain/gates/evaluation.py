"""All gates that a plan asks for, on the evidence of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from registry.errors import BadInputError
from retrain.gates import promises
from retrain.gates.calibration import calibration
from retrain.gates.classes import Finding, PairedClasses, every_class
from retrain.gates.deployment import DeploymentMeasurement, latency_and_size
from retrain.gates.impact import MeasuredImpact
from retrain.gates.integrity import (
    ParityMeasurement,
    label_provenance,
    no_patient_on_both_sides,
    parity,
)
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate, GateOutcome, GateReport, Outcome, all_of, gravest, named
from retrain.gates.performance import (
    non_inferiority_on_reference,
    not_inferior_to_reviewed,
    superiority_in_findings,
)
from retrain.gates.results import PairedResults
from retrain.gates.robustness import robustness
from retrain.gates.spending import ONLY_USE, Uses
from retrain.gates.subgroups import subgroups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Everything that gates look at."""

    #: the name of the finding that all of these are about; empty where the task has but one
    finding: str = ""
    #: on the locked set of drifted scans
    drifted: PairedResults
    #: on the locked set of reference scans
    reference: PairedResults
    #: measured on labels outside both locked sets
    impact: MeasuredImpact
    #: pseudonyms of all patients behind the candidate and the versions it was derived from
    trained_on: frozenset[str]
    #: the version of the last full review in the champion's place, on the reference, and its
    #: name; None where the champion itself is that version
    reviewed: tuple[str, PairedResults] | None = None
    #: None where the check was not run
    parity: ParityMeasurement | None
    #: both models on the reference after each small change of the acquisition, by its name
    changed: Mapping[str, PairedResults] | None = None
    #: further findings of a multi-label task, by name: they pass the gates on performance, too
    further: Mapping[str, Finding] = field(default_factory=dict)
    #: all classes of a multi-class task on the reference
    classes: PairedClasses | None = None
    #: None where the models were not timed
    deployment: DeploymentMeasurement | None = None
    #: which of the candidates that each locked set may judge this one is
    drifted_uses: Uses = ONLY_USE
    reference_uses: Uses = ONLY_USE

    @property
    def findings(self) -> dict[str, Finding]:
        """Every finding by its name; the empty name is that of a task's only one."""
        first = Finding(
            drifted=self.drifted,
            reference=self.reference,
            impact=self.impact,
            reviewed=None if self.reviewed is None else self.reviewed[1],
            changed=self.changed,
        )
        return {self.finding: first, **self.further}

    def __post_init__(self) -> None:
        if self.finding in self.further:
            raise BadInputError(f"the finding {self.finding!r} stands twice")
        for model in ("champion", "candidate"):
            at_drifted = getattr(self.drifted, f"{model}_threshold")
            at_reference = getattr(self.reference, f"{model}_threshold")
            if at_drifted != at_reference:
                raise BadInputError(
                    f"the {model} was read at threshold {at_drifted} on the drifted set and "
                    f"{at_reference} on the reference: gates judge one operating point"
                )


def evaluate(gates: Sequence[Gate], evidence: Evidence, limits: GateLimits) -> GateReport:
    """Evaluate gates, in the given order, and return their report.

    The verdict is the gravest outcome: only where every gate passed has the candidate
    passed.

    Raises
    ------
    BadInputError
        If no gate is asked for, or one twice.
    """
    if not gates or len(set(gates)) != len(gates):
        raise BadInputError(
            f"{len(gates)} gates are asked for, {len(set(gates))} of them different: "
            "name each gate of the plan once, and at least one"
        )
    outcomes = tuple(
        _promising(_evaluate(gate, evidence, limits), evidence, limits) for gate in gates
    )
    verdict = gravest([outcome.outcome for outcome in outcomes])
    return GateReport(
        verdict=verdict, outcomes=outcomes, limits=limits, sentence=_summary(verdict, outcomes)
    )


def _evaluate(gate: Gate, evidence: Evidence, limits: GateLimits) -> GateOutcome:
    reference = evidence.reference
    match gate:
        case Gate.SUPERIORITY:
            outcome = superiority_in_findings(
                evidence.findings, limits=limits, uses=evidence.drifted_uses
            )
        case Gate.NON_INFERIORITY:
            outcome = non_inferiority_on_reference(
                reference,
                limits=limits,
                uses=evidence.reference_uses,
                finding=evidence.finding,
                further={name: one.reference for name, one in evidence.further.items()},
            )
        case Gate.CUMULATIVE:
            name, results = evidence.reviewed or ("the champion", reference)
            outcome = not_inferior_to_reviewed(
                results,
                name=name,
                limits=limits,
                finding=evidence.finding,
                further={
                    further: one.reviewed or one.reference
                    for further, one in evidence.further.items()
                },
            )
        case Gate.SUBGROUPS:
            outcome = _in_each_finding(
                gate,
                evidence,
                lambda one: subgroups(
                    one.drifted, reference=one.reference, impact=one.impact, limits=limits
                ),
            )
        case Gate.CLASSES:
            outcome = every_class(evidence.classes, limits=limits)
        case Gate.CALIBRATION:
            outcome = _in_each_finding(
                gate,
                evidence,
                lambda one: calibration(one.drifted, reference=one.reference, limits=limits),
            )
        case Gate.ROBUSTNESS:
            outcome = _in_each_finding(
                gate,
                evidence,
                lambda one: robustness(one.reference, changed=one.changed, limits=limits),
            )
        case Gate.DEPLOYMENT | Gate.PARITY | Gate.PATIENTS | Gate.PROVENANCE:
            outcome = _of_what_it_rests_on(gate, evidence, limits)
    return outcome


def _promising(outcome: GateOutcome, evidence: Evidence, limits: GateLimits) -> GateOutcome:
    """Return a gate that keeps what it promises of the candidate in use, if it promises any."""
    if outcome.outcome is not Outcome.PASSED:
        return outcome
    kept: list[promises.Promise] = []
    for name, finding in evidence.findings.items():
        if outcome.name == Gate.NON_INFERIORITY:
            kept += promises.on_reference(finding.reference, limits, finding=name)
        elif outcome.name == Gate.SUPERIORITY:
            kept += promises.where_it_drifted(finding, limits, name=name)
        else:
            return outcome
    return replace(outcome, figures={**outcome.figures, **promises.recorded(kept)})


def _in_each_finding(
    gate: Gate, evidence: Evidence, judged: Callable[[Finding], GateOutcome]
) -> GateOutcome:
    outcomes = [
        named(judged(finding), gate, name) for name, finding in evidence.findings.items()
    ]
    if not evidence.further:
        return outcomes[0]
    # Side by side: who reads a gate sees every comparison of every finding.
    return all_of(gate, [part for one in outcomes for part in one.parts or (one,)])


def _of_what_it_rests_on(
    gate: Literal[Gate.DEPLOYMENT, Gate.PARITY, Gate.PATIENTS, Gate.PROVENANCE],
    evidence: Evidence,
    limits: GateLimits,
) -> GateOutcome:
    locked = [
        results
        for finding in evidence.findings.values()
        for results in (finding.drifted, finding.reference)
    ]
    match gate:
        case Gate.DEPLOYMENT:
            return latency_and_size(evidence.deployment, limits=limits)
        case Gate.PARITY:
            return parity(evidence.parity, limits=limits)
        case Gate.PATIENTS:
            return no_patient_on_both_sides(
                evidence.trained_on,
                locked=frozenset(
                    one for results in locked for one in results.patients.tolist()
                ),
            )
        case Gate.PROVENANCE:
            return label_provenance([one for results in locked for one in results.influence])


def _summary(verdict: Outcome, outcomes: Sequence[GateOutcome]) -> str:
    names = ", ".join(one.name for one in outcomes if one.outcome is verdict)
    match verdict:
        case Outcome.PASSED:
            return f"The candidate passed all {len(outcomes)} gates."
        case Outcome.FAILED:
            return f"The candidate is refused by: {names}."
        case Outcome.NOT_EVALUABLE:
            return f"No gate refuses the candidate, but the evidence cannot decide: {names}."
