"""All gates that a plan asks for, on the evidence of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import BadInputError
from retrain.gates.calibration import calibration
from retrain.gates.impact import MeasuredImpact
from retrain.gates.integrity import (
    ParityMeasurement,
    label_provenance,
    no_patient_on_both_sides,
    parity,
)
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate, GateOutcome, GateReport, Outcome, gravest
from retrain.gates.performance import (
    non_inferiority_on_reference,
    not_inferior_to_reviewed,
    superiority_where_it_drifted,
)
from retrain.gates.results import PairedResults
from retrain.gates.subgroups import subgroups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Everything that gates look at."""

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

    def __post_init__(self) -> None:
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
    outcomes = tuple(_evaluate(gate, evidence, limits) for gate in gates)
    verdict = gravest([outcome.outcome for outcome in outcomes])
    return GateReport(
        verdict=verdict, outcomes=outcomes, limits=limits, sentence=_summary(verdict, outcomes)
    )


def _evaluate(gate: Gate, evidence: Evidence, limits: GateLimits) -> GateOutcome:
    drifted, reference, impact = evidence.drifted, evidence.reference, evidence.impact
    match gate:
        case Gate.SUPERIORITY:
            outcome = superiority_where_it_drifted(
                drifted, reference=reference, impact=impact, limits=limits
            )
        case Gate.NON_INFERIORITY:
            outcome = non_inferiority_on_reference(reference, limits=limits)
        case Gate.CUMULATIVE:
            name, results = evidence.reviewed or ("the champion", reference)
            outcome = not_inferior_to_reviewed(results, name=name, limits=limits)
        case Gate.SUBGROUPS:
            outcome = subgroups(drifted, reference=reference, impact=impact, limits=limits)
        case Gate.CALIBRATION:
            outcome = calibration(drifted, reference=reference, limits=limits)
        case Gate.PARITY:
            outcome = parity(evidence.parity, limits=limits)
        case Gate.PATIENTS:
            outcome = no_patient_on_both_sides(
                evidence.trained_on,
                locked=frozenset(drifted.patients.tolist() + reference.patients.tolist()),
            )
        case Gate.PROVENANCE:
            outcome = label_provenance(drifted.influence + reference.influence)
    return outcome


def _summary(verdict: Outcome, outcomes: Sequence[GateOutcome]) -> str:
    names = ", ".join(one.name for one in outcomes if one.outcome is verdict)
    match verdict:
        case Outcome.PASSED:
            return f"The candidate passed all {len(outcomes)} gates."
        case Outcome.FAILED:
            return f"The candidate is refused by: {names}."
        case Outcome.NOT_EVALUABLE:
            return f"No gate refuses the candidate, but the evidence cannot decide: {names}."
