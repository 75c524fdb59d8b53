"""A candidate must not hang on details of the acquisition that change from day to day."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.statistics.performance.mean_differences import MeanDifference, mean_difference
from monitor.statistics.performance.paired_proportions import paired_difference
from retrain.gates.limits import GateLimits, no_limit
from retrain.gates.measures import CO_PRIMARY, Comparison, Measure, weights_of
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import PairedResults
from retrain.gates.sizes import too_few
from retrain.gates.wording import amount, compared, interval_in_words, level_of, p_in_words


def robustness(
    reference: PairedResults,
    *,
    changed: Mapping[str, PairedResults] | None,
    limits: GateLimits,
) -> GateOutcome:
    """Decide whether small changes of the acquisition cost the candidate little.

    For each change, and for sensitivity and specificity at the candidate's threshold, two
    things must be shown, each at the full alpha: that the candidate loses less than the margin
    against itself on the scans as they are (Tango's score interval by patient), and that it
    does not lose more than the champion does, by the same margin (the mean difference of both
    models' changes by patient).

    Parameters
    ----------
    reference : both models on the locked reference scans as they are
    changed : both models on the same scans after each change, by its name; None where the
        scans' pixels could not be changed

    Raises
    ------
    BadInputError
        If the limits hold no margins for it.
    """
    if not changed:
        return not_evaluable(
            Gate.ROBUSTNESS,
            statistic="none",
            n=0,
            sentence=(
                "No scan was read under small changes of the acquisition: keep the reference's "
                "pixels, then validate again."
            ),
        )
    margins = limits.robustness
    if margins is None:
        raise no_limit("robustness")
    short = too_few(Gate.ROBUSTNESS, reference, which="reference", limits=limits)
    if short is not None:
        return short
    return all_of(
        Gate.ROBUSTNESS,
        [
            _judge(name, measure, reference, results, limits, margin=margins.margin(measure))
            for name, results in changed.items()
            for measure in CO_PRIMARY
        ],
    )


def _judge(
    name: str,
    measure: Measure,
    reference: PairedResults,
    changed: PairedResults,
    limits: GateLimits,
    *,
    margin: float,
) -> GateOutcome:
    alpha = limits.non_inferiority_alpha
    level = level_of(alpha)
    rows = reference.truth if measure is Measure.SENSITIVITY else ~reference.truth
    truth, patients = reference.truth[rows], reference.patients[rows]
    weights = weights_of(reference.weights, rows)
    candidate_before = reference.candidate_calls[rows] == truth
    candidate_after = changed.candidate_calls[rows] == truth
    loss = paired_difference(
        candidate_before, candidate_after, patients, weights=weights, level=level
    )
    champion_before = reference.champion_calls[rows] == truth
    champion_after = changed.champion_calls[rows] == truth
    more = mean_difference(
        candidate_after.astype(float)
        - candidate_before
        - champion_after.astype(float)
        + champion_before,
        patients,
        weights=weights,
        # Each of four calls may turn: the least that a mean is known to.
        step=1.0,
        level=level,
    )
    p_loss, p_more = loss.p_greater(-margin), more.p_greater(-margin)
    p_value = max(p_loss, p_more)
    passed = p_value <= alpha
    comparison = Comparison(
        measure=measure,
        candidate=loss.second,
        benchmark=loss.first,
        against="itself on the scans as they are",
        statistic="paired proportions, Tango's score by patient; mean difference by patient",
        difference=loss,
        p_superior=loss.p_superior(),
        scans=loss.scans,
    )
    return GateOutcome(
        name=f"{Gate.ROBUSTNESS}/{name}/{measure}",
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=comparison.statistic,
        estimate=loss.estimate,
        interval=loss.interval,
        margin=-margin,
        p_value=p_value,
        n=loss.scans,
        sentence=_sentence(
            comparison,
            more,
            name=name,
            margin=margin,
            alpha=alpha,
            p_loss=p_loss,
            p_more=p_more,
        ),
        figures={
            "against_the_champion": {
                "estimate": more.estimate,
                "low": more.interval.low,
                "high": more.interval.high,
                "level": more.interval.level,
                "p_value": p_more,
            }
        },
    )


def _sentence(
    comparison: Comparison,
    more: MeanDifference,
    *,
    name: str,
    margin: float,
    alpha: float,
    p_loss: float,
    p_more: float,
) -> str:
    measure = comparison.measure
    allowed = amount(measure, margin, signed=True).removeprefix("+")
    kept = "" if p_loss <= alpha else "not "
    alike = "" if p_more <= alpha else "not "
    return (
        f"{compared(comparison, where=f'under {name}')}: {kept}shown to lose less than "
        f"{allowed}, {p_in_words(p_loss)}; {amount(measure, more.estimate, signed=True)} against "
        f"what the champion changes by ({interval_in_words(measure, more.interval)}), {alike}"
        f"shown to be within {allowed}, {p_in_words(p_more)} (at most {alpha:g})."
    )
