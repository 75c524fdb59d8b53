"""No declared subgroup may be harmed, and none may pass for want of patients.

Two readings of each subgroup must agree. Its own scans alone carry the claim that it is not
inferior: no other subgroup can lend it a pass. All subgroups of an attribute together, by
partial pooling, can only take a pass away, or show a harm that no subgroup shows alone; and they
tell whoever decides about a subgroup that is not evaluable what its likelier figures are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitor.statistics.performance.partial_pooling import (
    Estimated,
    Heterogeneity,
    PooledDifference,
    pool,
)
from monitor.statistics.performance.proportions import Interval, quantile_of
from registry.canonical import Json
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
from retrain.gates.wording import amount, compared, interval_in_words, level_of, p_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    name: str
    where: str
    #: subgroups of one are disjoint, and pooled
    family: tuple[str, str, Measure]
    comparison: Comparison
    #: one-sided, against "the candidate is no worse"
    p_harm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pooled:
    """What the subgroups of one attribute say together of one of them."""

    difference: PooledDifference
    heterogeneity: Heterogeneity
    #: of true differences between subgroups, as estimated
    spread: float
    subgroups: int

    def as_record(self) -> dict[str, Json]:
        interval = self.difference.interval
        return {
            "estimate": self.difference.estimate,
            "low": interval.low,
            "high": interval.high,
            "level": interval.level,
            "subgroups": self.subgroups,
            "spread": self.spread,
            "heterogeneity_p": self.heterogeneity.p_value,
        }


def subgroups(
    drifted: PairedResults,
    *,
    reference: PairedResults,
    impact: MeasuredImpact,
    limits: GateLimits,
) -> GateOutcome:
    """Decide about sensitivity and specificity in each declared subgroup of both locked sets.

    - *passed*: not inferior by the subgroups' margin on its own scans, and by partial pooling
      (each must, so no alpha is divided);
    - *failed*: its own scans show it to be worse, Holm-corrected over everything tested here,
      or partial pooling shows it to be worse by more than the margin;
    - *not evaluable*: neither, or fewer patients of the class than the plan asks for. A
      restriction or a person decides then; it is never a silent pass.

    Subgroups are pooled with those of the same attribute, in the same set and measure, since
    these are disjoint.

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
    pooled = _pooled(tested, limits)
    parts = [
        _judge(one, harmed=bad, pooled=pooled.get(one.name), limits=limits)
        for one, bad in zip(tested, harmed, strict=True)
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
        family=(subgroup.attribute, which, measure),
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


def _pooled(tested: Sequence[_Tested], limits: GateLimits) -> dict[str, _Pooled]:
    """Return what partial pooling says of each subgroup that has others to be pooled with."""
    level = level_of(limits.non_inferiority_alpha)
    found: dict[str, _Pooled] = {}
    for family in dict.fromkeys(one.family for one in tested):
        together = [one for one in tested if one.family == family]
        if len(together) < 2:
            continue
        pooling = pool(
            [_estimated(one.comparison, level=level) for one in together],
            # Before any result is seen, true differences of about the margin are possible.
            scale=limits.subgroups.margin(family[2]),
            level=level,
        )
        found |= {
            one.name: _Pooled(
                difference=replace(difference, interval=_of_proportions(difference.interval)),
                heterogeneity=pooling.heterogeneity,
                spread=pooling.spread,
                subgroups=len(together),
            )
            for one, difference in zip(together, pooling.subgroups, strict=True)
        }
    return found


def _of_proportions(interval: Interval) -> Interval:
    """Return an interval of normals as far as a difference of proportions can reach."""
    return replace(interval, low=max(interval.low, -1.0), high=min(interval.high, 1.0))


def _estimated(comparison: Comparison, *, level: float) -> Estimated:
    """Return a difference with the error that its score interval implies.

    The interval is by patient, honours weights, and is no point where no pair is discordant.
    """
    interval = comparison.difference.interval
    return Estimated(
        estimate=comparison.difference.estimate,
        standard_error=(interval.high - interval.low) / (2.0 * quantile_of(level)),
    )


def _judge(
    tested: _Tested, *, harmed: bool, pooled: _Pooled | None, limits: GateLimits
) -> GateOutcome:
    comparison, measure = tested.comparison, tested.comparison.measure
    margin, alpha = limits.subgroups.margin(measure), limits.non_inferiority_alpha
    p_value = comparison.difference.p_greater(-margin)
    beyond = 0.0 if pooled is None else pooled.difference.chance_below(-margin)
    allowed = amount(measure, margin, signed=True).removeprefix("+")
    if p_value <= alpha and beyond <= alpha:
        outcome = Outcome.PASSED
        verdict = f"not inferior by a margin of {allowed}, {p_in_words(p_value)}"
    elif harmed:
        outcome, p_value = Outcome.FAILED, tested.p_harm
        verdict = f"the candidate is worse, {p_in_words(p_value)} before Holm's correction"
    elif beyond >= 1.0 - alpha:
        outcome = Outcome.FAILED
        verdict = f"with its like, the subgroup is shown to be worse by more than {allowed}"
    else:
        outcome = Outcome.NOT_EVALUABLE
        verdict = (
            f"neither shown to be worse, by Holm's correction over all subgroups, nor to be within "
            f"{allowed}: "
            "restrict the model there, label more scans, or let a person decide"
        )
    return GateOutcome(
        name=tested.name,
        outcome=outcome,
        statistic=comparison.statistic + ("" if pooled is None else "; partial pooling"),
        estimate=comparison.difference.estimate,
        interval=comparison.difference.interval,
        margin=-margin,
        p_value=p_value,
        n=comparison.scans,
        sentence=(
            f"{compared(comparison, where=tested.where)}: {verdict}."
            + ("" if pooled is None else f" {_in_words(measure, pooled)}")
        ),
        figures={} if pooled is None else {"pooled": pooled.as_record()},
    )


def _in_words(measure: Measure, pooled: _Pooled) -> str:
    difference = pooled.difference
    return (
        f"Pooled with {pooled.subgroups - 1} other{'s' if pooled.subgroups > 2 else ''}: "
        f"{amount(measure, difference.estimate, signed=True)} "
        f"({interval_in_words(measure, difference.interval)})."
    )
