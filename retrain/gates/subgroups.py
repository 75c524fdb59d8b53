"""No declared subgroup may be harmed, and none may pass for want of patients."""

from __future__ import annotations

from dataclasses import dataclass

from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.limits import GateLimits, Subgroup
from retrain.gates.measures import (
    CO_PRIMARY,
    Comparison,
    Measure,
    compare,
    compare_with_reference,
)
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import PairedResults
from retrain.gates.wording import amount, compared, level_of, p_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    name: str
    where: str
    comparison: Comparison
    #: one-sided, against "the candidate is no worse"
    p_harm: float


def subgroups(
    drifted: PairedResults,
    *,
    reference: PairedResults,
    impact: MeasuredImpact,
    limits: GateLimits,
) -> GateOutcome:
    """Decide about sensitivity and specificity in each declared subgroup of both locked sets.

    - *passed*: not inferior by the subgroups' margin (each must, so no alpha is divided);
    - *failed*: shown to be worse, Holm-corrected over everything tested here;
    - *not evaluable*: neither, or fewer patients of the class than the plan asks for. A
      restriction or a person decides then; it is never a silent pass.

    On the drifted set a measure that the drift had raised is compared with the champion's
    in the same subgroup of the reference, as `superiority_where_it_drifted` explains.
    """
    if not limits.subgroups.declared:
        return not_evaluable(
            Gate.SUBGROUPS,
            statistic="none",
            n=0,
            sentence="The plan declares no subgroup: declare those to protect.",
        )
    tested: list[_Tested] = []
    untested: list[GateOutcome] = []
    for subgroup in limits.subgroups.declared:
        for measure in CO_PRIMARY:
            for which, results in (("drifted", drifted), ("reference", reference)):
                gained = which == "drifted" and impact.of(measure) is Change.GAINED
                found = _test(
                    subgroup,
                    measure,
                    which,
                    results,
                    benchmark=reference if gained else None,
                    limits=limits,
                )
                if isinstance(found, _Tested):
                    tested.append(found)
                else:
                    untested.append(found)
    harmed = _holm([one.p_harm for one in tested], alpha=limits.subgroups.harm_alpha)
    parts = [
        _judge(one, harmed=bad, limits=limits) for one, bad in zip(tested, harmed, strict=True)
    ]
    return all_of(Gate.SUBGROUPS, parts + untested)


def _test(
    subgroup: Subgroup,
    measure: Measure,
    which: str,
    results: PairedResults,
    *,
    benchmark: PairedResults | None,
    limits: GateLimits,
) -> _Tested | GateOutcome:
    name = f"{Gate.SUBGROUPS}/{subgroup.attribute}={subgroup.value}/{which}/{measure}"
    where = f"for {subgroup.attribute} {subgroup.value} in the {which} set"
    inside = results.within(subgroup.attribute, subgroup.value)
    compared_with = (
        None if benchmark is None else benchmark.within(subgroup.attribute, subgroup.value)
    )
    finding = measure is Measure.SENSITIVITY
    needed = [inside] if benchmark is None else [inside, compared_with]
    patients = min(0 if one is None else one.patients_with(finding=finding) for one in needed)
    if inside is None or patients < limits.subgroups.minimum:
        return not_evaluable(
            name,
            statistic="none",
            n=0 if inside is None else measure.scans_in(inside.truth),
            sentence=(
                f"{measure.value.capitalize()} {where} rests on {patients} patients, and the "
                f"plan asks for {limits.subgroups.minimum}: restrict the model there, or let a "
                "person decide."
            ),
        )
    level = level_of(limits.non_inferiority_alpha)
    comparison = (
        compare(measure, inside, level=level)
        if compared_with is None
        else compare_with_reference(measure, inside, compared_with, level=level)
    )
    return _Tested(
        name=name,
        where=where,
        comparison=comparison,
        p_harm=1.0 - comparison.difference.p_greater(0.0),
    )


def _holm(p_values: list[float], *, alpha: float) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects (1979, Scand. J. Statistics 6:65-70)."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def _judge(tested: _Tested, *, harmed: bool, limits: GateLimits) -> GateOutcome:
    comparison = tested.comparison
    margin = limits.subgroups.margin(comparison.measure)
    p_value = comparison.difference.p_greater(-margin)
    allowed = amount(comparison.measure, margin, signed=True).removeprefix("+")
    if p_value <= limits.non_inferiority_alpha:
        outcome = Outcome.PASSED
        verdict = f"not inferior by a margin of {allowed}, {p_in_words(p_value)}."
    elif harmed:
        outcome, p_value = Outcome.FAILED, tested.p_harm
        verdict = f"the candidate is worse, {p_in_words(p_value)} before Holm's correction."
    else:
        outcome = Outcome.NOT_EVALUABLE
        verdict = (
            f"neither shown to be worse nor to be within {allowed}: "
            "restrict the model there, label more scans, or let a person decide."
        )
    return GateOutcome(
        name=tested.name,
        outcome=outcome,
        statistic=comparison.statistic,
        estimate=comparison.difference.estimate,
        interval=comparison.difference.interval,
        margin=-margin,
        p_value=p_value,
        n=comparison.scans,
        sentence=f"{compared(comparison, where=tested.where)}: {verdict}",
    )
