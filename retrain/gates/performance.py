"""Superiority where it drifted, non-inferiority on the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from retrain.gates.classes import Finding
from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.limits import GateLimits
from retrain.gates.measures import (
    CO_PRIMARY,
    Comparison,
    Measure,
    compare,
    compare_with_reference,
)
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import PairedResults
from retrain.gates.sizes import too_few
from retrain.gates.spending import ONLY_USE, Uses
from retrain.gates.wording import amount, compared, level_of, p_in_words


def superiority_where_it_drifted(
    drifted: PairedResults,
    *,
    reference: PairedResults,
    impact: MeasuredImpact,
    limits: GateLimits,
    uses: Uses = ONLY_USE,
) -> GateOutcome:
    """Decide whether the candidate repairs what the drift broke, and breaks nothing else.

    Sensitivity and specificity at each model's own threshold are co-primary, the AUC is
    secondary. What each must show follows from what the drift did to the champion, as
    measured on labels outside the locked sets:

    - *lost*: superior to the champion on the same scans (for the AUC only where neither
      co-primary measure was lost; otherwise not inferior to it);
    - *kept*: not inferior to the champion on the same scans;
    - *gained*: not inferior to the champion on the reference. A champion that calls
      every drifted scan positive has a sensitivity of 1 there, which nothing that repairs
      it could keep; what was approved is the reference's.

    All must hold, so that no alpha is divided among them; that of superiority is shared out
    over the candidates that the locked set may judge (`spending`). Where nothing was lost,
    there is nothing in which a candidate should be superior, and the gate is not evaluable.
    """
    finding = Finding(drifted=drifted, reference=reference, impact=impact)
    return superiority_in_findings({"": finding}, limits=limits, uses=uses)


def superiority_in_findings(
    findings: Mapping[str, Finding], *, limits: GateLimits, uses: Uses = ONLY_USE
) -> GateOutcome:
    """Decide as `superiority_where_it_drifted` for a task of several findings.

    At least one finding must have lost a measure. Each must hold what it would have to hold
    alone; in one that lost nothing, nothing may become inferior.

    Parameters
    ----------
    findings : by name; the empty name is that of a task's only finding
    """
    for name, finding in findings.items():
        for which, results in (("drifted", finding.drifted), ("reference", finding.reference)):
            short = too_few(Gate.SUPERIORITY, results, which=which, limits=limits, of=name)
            if short is not None:
                return short
    if not any(_lost(finding) for finding in findings.values()):
        return not_evaluable(
            Gate.SUPERIORITY,
            statistic="none",
            n=max(finding.drifted.scans for finding in findings.values()),
            sentence=(
                "No loss of the champion was shown on labels outside the locked sets, so that "
                "there is nothing in which the candidate should be better: collect more "
                "labels, or let a person decide."
            ),
        )
    parts = [
        part
        for name, finding in findings.items()
        for part in _where_it_drifted(name, finding, limits, uses)
    ]
    return told(all_of(Gate.SUPERIORITY, parts), uses)


def _lost(finding: Finding) -> list[Measure]:
    """Return the measures in which superiority is asked of a candidate."""
    lost = [measure for measure in CO_PRIMARY if finding.impact.of(measure) is Change.LOST]
    if not lost and finding.impact.auc is Change.LOST:
        lost = [Measure.AUC]
    return lost


def _where_it_drifted(
    name: str, finding: Finding, limits: GateLimits, uses: Uses
) -> list[GateOutcome]:
    lost = _lost(finding)
    drifted, impact = finding.drifted, finding.impact
    prefix = str(Gate.SUPERIORITY) + (f"/{name}" if name else "")
    where = _where("where it drifted", name)
    parts = [
        _superior(measure, drifted, limits, uses, prefix=prefix, where=where)
        for measure in lost
    ]
    for measure in Measure:
        if measure in lost:
            continue
        level = level_of(limits.non_inferiority_alpha)
        comparison = (
            compare_with_reference(measure, drifted, finding.reference, level=level)
            if impact.of(measure) is Change.GAINED
            else compare(measure, drifted, level=level)
        )
        parts.append(
            _not_inferior(
                f"{prefix}/{measure}",
                comparison,
                where=where,
                margin=limits.drifted_margins.of(measure),
                alpha=limits.non_inferiority_alpha,
            )
        )
    return parts


def _where(where: str, name: str) -> str:
    return f"of {name} {where}" if name else where


def told(outcome: GateOutcome, uses: Uses) -> GateOutcome:
    """Return a gate that says which use of its locked set it was."""
    if uses == ONLY_USE:
        return outcome
    return replace(
        outcome,
        sentence=f"{outcome.sentence} It is {uses.in_words()}.",
        figures={
            **outcome.figures,
            "uses": {"before": uses.before, "declared": uses.declared},
        },
    )


def non_inferiority_on_reference(
    reference: PairedResults,
    *,
    limits: GateLimits,
    uses: Uses = ONLY_USE,
    finding: str = "",
    further: Mapping[str, PairedResults] | None = None,
) -> GateOutcome:
    """Decide whether the candidate is not inferior where nothing drifted.

    Sensitivity and specificity by Tango's score interval, the AUC by DeLong, each clustered
    by patient, each with its margin; all three must hold, and so must they in each further
    finding of the task.

    Parameters
    ----------
    finding : the name of what `reference` is of, where the task has several findings
    further : the other findings, by name
    """
    return told(
        _not_inferior_in_all(
            Gate.NON_INFERIORITY, {finding: reference, **(further or {})}, limits=limits
        ),
        uses,
    )


def not_inferior_to_reviewed(
    reviewed: PairedResults,
    *,
    name: str,
    limits: GateLimits,
    finding: str = "",
    further: Mapping[str, PairedResults] | None = None,
) -> GateOutcome:
    """Decide whether small steps add up to no harm since a person last reviewed the model.

    As `non_inferiority_on_reference`, by the same margins, but against the champion of the
    last full review: each of several candidates may lose a little against the one before it,
    and none of these losses shows.

    Parameters
    ----------
    reviewed : on the reference, with the reviewed version in the champion's place
    name : of the reviewed version
    finding, further : as in `non_inferiority_on_reference`
    """
    findings = {finding: reviewed, **(further or {})}
    return _not_inferior_in_all(Gate.CUMULATIVE, findings, limits=limits, against=name)


def _not_inferior_in_all(
    gate: Gate,
    findings: Mapping[str, PairedResults],
    *,
    limits: GateLimits,
    against: str | None = None,
) -> GateOutcome:
    for name, reference in findings.items():
        short = too_few(gate, reference, which="reference", limits=limits, of=name)
        if short is not None:
            return short
    level = level_of(limits.non_inferiority_alpha)
    parts = []
    for name, reference in findings.items():
        for measure in Measure:
            comparison = compare(measure, reference, level=level)
            if against is not None:
                comparison = replace(comparison, against=f"{against}, last reviewed,")
            parts.append(
                _not_inferior(
                    f"{gate}/{name}/{measure}" if name else f"{gate}/{measure}",
                    comparison,
                    where=_where("on the reference", name),
                    margin=limits.reference_margins.of(measure),
                    alpha=limits.non_inferiority_alpha,
                )
            )
    return all_of(gate, parts)


def _superior(
    measure: Measure,
    drifted: PairedResults,
    limits: GateLimits,
    uses: Uses,
    *,
    prefix: str,
    where: str,
) -> GateOutcome:
    alpha = uses.spent(limits.superiority_alpha)
    of_all = "" if uses.declared == 1 else f", of {limits.superiority_alpha:g} for all"
    comparison = compare(measure, drifted, level=level_of(alpha))
    p_value = comparison.p_superior
    passed = p_value <= alpha
    verdict = "superior" if passed else "not shown to be superior"
    return _outcome(
        f"{prefix}/{measure}",
        comparison,
        passed=passed,
        margin=0.0,
        p_value=p_value,
        sentence=(
            f"{compared(comparison, where=where)}: {verdict}, "
            f"{p_in_words(p_value)} (at most {alpha:.3g}{of_all})."
        ),
    )


def _not_inferior(
    name: str, comparison: Comparison, *, where: str, margin: float, alpha: float
) -> GateOutcome:
    p_value = comparison.difference.p_greater(-margin)
    passed = p_value <= alpha
    verdict = "not inferior" if passed else "not shown to be non-inferior"
    allowed = amount(comparison.measure, margin, signed=True).removeprefix("+")
    return _outcome(
        name,
        comparison,
        passed=passed,
        margin=-margin,
        p_value=p_value,
        sentence=(
            f"{compared(comparison, where=where)}: {verdict} by a margin of {allowed}, "
            f"{p_in_words(p_value)} (at most {alpha:g})."
        ),
    )


def _outcome(
    name: str,
    comparison: Comparison,
    *,
    passed: bool,
    margin: float,
    p_value: float,
    sentence: str,
) -> GateOutcome:
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=comparison.statistic,
        estimate=comparison.difference.estimate,
        interval=comparison.difference.interval,
        margin=margin,
        p_value=p_value,
        n=comparison.scans,
        sentence=sentence,
    )
