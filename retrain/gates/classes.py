"""Tasks of more than one finding: several classes of which one holds, or several findings.

*Multi-class*: one class holds. What the model is deployed for is its positive class, judged at
the threshold as any finding is (`PairedClasses.positive`); besides, no class may be read worse
than before, and the gate on classes asks for that.

*Multi-label*: each class holds or not by itself, and is a finding with results, an impact and
gates of its own (`Finding`). All must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.several_classes import (
    MacroDifference,
    compare_macro_aucs,
    compare_macro_sensitivities,
)
from registry.errors import BadInputError, InsufficientDataError
from retrain.gates.impact import MeasuredImpact
from retrain.gates.limits import GateLimits, Margins
from retrain.gates.measures import CO_PRIMARY, Comparison, Measure, weights_of
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import AiInfluence, Floats, PairedResults, Strings
from retrain.gates.wording import amount, compared, level_of, p_in_words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finding:
    """Everything that gates on performance look at, for one finding."""

    drifted: PairedResults
    reference: PairedResults
    impact: MeasuredImpact
    #: the version of the last full review in the champion's place, on the reference; None where
    #: the champion is that version
    reviewed: PairedResults | None = None
    #: both models on the reference after each small change of the acquisition, by its name
    changed: Mapping[str, PairedResults] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedClasses:
    """Champion's and candidate's results on the same scans, for a task of several classes."""

    classes: tuple[str, ...]
    #: probabilities, float64 [n, k]; rows sum to 1
    champion: Floats
    candidate: Floats
    #: class of each scan, 0 .. k - 1, [n]
    truth: npt.NDArray[np.int64]
    #: pseudonym of each scan's patient, [n]
    patients: Strings
    #: of each scan's label, length n
    influence: tuple[AiInfluence, ...]
    #: inverse of each scan's chance to be labelled, [n]; None where the chances are equal
    weights: Floats | None = None

    def __post_init__(self) -> None:
        shape = (len(self.truth), len(self.classes))
        for whose, values in (("champion's", self.champion), ("candidate's", self.candidate)):
            if np.shape(values) != shape or not np.allclose(
                np.sum(values, axis=1), 1.0, atol=1e-4
            ):
                raise BadInputError(
                    f"the {whose} probabilities must have shape {list(shape)} and rows that sum "
                    f"to 1, got shape {list(np.shape(values))}"
                )
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise BadInputError("a task of several classes needs at least two, each named once")
        if not np.isin(self.truth, np.arange(len(self.classes))).all():
            raise BadInputError(
                f"classes must be whole numbers from 0 to {len(self.classes) - 1}: leave scans "
                "without a label out"
            )

    def of(
        self,
        name: str,
        *,
        champion_threshold: float,
        candidate_threshold: float,
        subgroups: Mapping[str, Strings],
    ) -> PairedResults:
        """Return the results for one class against the rest, read at thresholds.

        Raises
        ------
        BadInputError
            If the task has no such class.
        """
        if name not in self.classes:
            raise BadInputError(f"the task has no class {name!r}: {', '.join(self.classes)}")
        column = self.classes.index(name)
        return PairedResults(
            champion=self.champion[:, column],
            candidate=self.candidate[:, column],
            champion_threshold=champion_threshold,
            candidate_threshold=candidate_threshold,
            truth=self.truth == column,
            patients=self.patients,
            influence=self.influence,
            subgroups=subgroups,
            weights=self.weights,
        )


def every_class(results: PairedClasses | None, *, limits: GateLimits) -> GateOutcome:
    """Decide whether the candidate reads no class worse than the champion, on the reference.

    For each class the sensitivity and the specificity at the class ranked first (Tango's
    score interval by patient), and over all classes the mean sensitivity and the mean AUC of
    one against the rest (normal by patient), each by the reference's margin. All must hold
    at the full alpha, so that more classes make the gate stricter and need no correction; a
    class with too few patients is not evaluable.
    """
    if results is None:
        return not_evaluable(
            Gate.CLASSES,
            statistic="none",
            n=0,
            sentence="The task has no several classes: leave this gate out of the plan.",
        )
    parts = [
        _of_class(results, code, name, measure, limits)
        for code, name in enumerate(results.classes)
        for measure in CO_PRIMARY
    ]
    return all_of(Gate.CLASSES, [*parts, *_averages(results, limits)])


def _of_class(
    results: PairedClasses, code: int, name: str, measure: Measure, limits: GateLimits
) -> GateOutcome:
    truth = results.truth == code
    finding = measure is Measure.SENSITIVITY
    rows = truth if finding else ~truth
    patients = len(np.unique(results.patients[rows]))
    needed = limits.minimum_positives if finding else limits.minimum_negatives
    part = f"{Gate.CLASSES}/{name}/{measure}"
    if patients < needed:
        return not_evaluable(
            part,
            statistic="none",
            n=int(np.count_nonzero(rows)),
            sentence=(
                f"{measure.value.capitalize()} for class {name} rests on {patients} patients, and "
                f"the plan asks for {needed}: collect labels, or let a person decide."
            ),
        )
    champion, candidate = (
        (np.argmax(model, axis=1) == code) == truth
        for model in (results.champion, results.candidate)
    )
    difference = paired_difference(
        champion[rows],
        candidate[rows],
        results.patients[rows],
        weights=weights_of(results.weights, rows),
        level=level_of(limits.non_inferiority_alpha),
    )
    return _judged(
        part,
        Comparison(
            measure=measure,
            candidate=difference.second,
            benchmark=difference.first,
            against="the champion",
            statistic="paired proportions at the class ranked first, Tango's score by patient",
            difference=difference,
            p_superior=difference.p_superior(),
            scans=difference.scans,
        ),
        where=f"for class {name}",
        limits=limits,
    )


def _averages(results: PairedClasses, limits: GateLimits) -> list[GateOutcome]:
    level = level_of(limits.non_inferiority_alpha)
    arguments = (results.champion, results.candidate, results.truth, results.patients)
    try:
        averages = (
            (
                "mean of classes",
                Measure.SENSITIVITY,
                compare_macro_sensitivities(*arguments, weights=results.weights, level=level),
            ),
            (
                "mean of classes",
                Measure.AUC,
                compare_macro_aucs(*arguments, weights=results.weights, level=level),
            ),
        )
    except InsufficientDataError as reason:
        return [
            not_evaluable(
                f"{Gate.CLASSES}/mean of classes",
                statistic="none",
                n=len(results.truth),
                sentence=f"There is no mean over classes: {reason}.",
            )
        ]
    return [
        _judged(
            f"{Gate.CLASSES}/{name}/{measure}",
            _average(measure, difference),
            where="as the mean of classes",
            limits=limits,
        )
        for name, measure, difference in averages
    ]


def _average(measure: Measure, difference: MacroDifference) -> Comparison:
    return Comparison(
        measure=measure,
        candidate=difference.second,
        benchmark=difference.first,
        against="the champion",
        statistic="macro average, one against the rest, linearised by patient",
        difference=difference,
        p_superior=difference.p_greater(0.0),
        scans=difference.scans,
    )


def _judged(
    name: str, comparison: Comparison, *, where: str, limits: GateLimits
) -> GateOutcome:
    margins: Margins = limits.reference_margins
    margin, alpha = margins.of(comparison.measure), limits.non_inferiority_alpha
    p_value = comparison.difference.p_greater(-margin)
    passed = p_value <= alpha
    allowed = amount(comparison.measure, margin, signed=True).removeprefix("+")
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=comparison.statistic,
        estimate=comparison.difference.estimate,
        interval=comparison.difference.interval,
        margin=-margin,
        p_value=p_value,
        n=comparison.scans,
        sentence=(
            f"{compared(comparison, where=where)}: {'' if passed else 'not shown to be '}"
            f"{'not inferior' if passed else 'non-inferior'} by a margin of {allowed}, "
            f"{p_in_words(p_value)} (at most {alpha:g})."
        ),
    )
