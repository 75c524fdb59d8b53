"""What a drift did to the champion, by measure: it decides what is asked of a candidate.

The labels must be others than those of the drifted locked set. Were a loss looked for and
superiority tested on the same scans, a champion that was merely unlucky there would be found
to have lost, and any candidate to be better (regression to the mean).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitor.statistics.performance.independent_differences import independent_difference
from registry.errors import BadInputError
from retrain.gates.measures import Measure, estimate
from retrain.gates.results import Results


class Change(StrEnum):
    """What became of a measure of the champion under a drift."""

    LOST = "lost"
    #: neither a loss nor a gain was shown
    KEPT = "kept"
    #: such as the sensitivity of a champion that calls everything positive
    GAINED = "gained"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredImpact:
    """What a drift did to each measure of the champion."""

    sensitivity: Change
    specificity: Change
    auc: Change

    def of(self, measure: Measure) -> Change:
        match measure:
            case Measure.SENSITIVITY:
                return self.sensitivity
            case Measure.SPECIFICITY:
                return self.specificity
            case Measure.AUC:
                return self.auc


def measure_impact(reference: Results, drifted: Results, *, level: float) -> MeasuredImpact:
    """Return which measures of the champion differ between reference and drifted scans.

    A measure is lost or gained where the interval of its difference leaves 0 out
    (Newcombe's for proportions, joined DeLong intervals for the AUC).

    Parameters
    ----------
    reference : the champion on reference scans
    drifted : the champion on drifted scans, none of them from a locked set
    level : confidence of the intervals

    Raises
    ------
    BadInputError
        If the two were read at different thresholds.
    InsufficientDataError
        If a class is missing in either.
    """
    if reference.threshold != drifted.threshold:
        raise BadInputError(
            f"the reference was read at threshold {reference.threshold} and the drifted scans "
            f"at {drifted.threshold}: impact is measured at one operating point"
        )

    def change(measure: Measure) -> Change:
        interval = independent_difference(
            estimate(measure, reference, level=level),
            estimate(measure, drifted, level=level),
            level=level,
        ).interval
        if interval.high < 0.0:
            return Change.LOST
        return Change.GAINED if interval.low > 0.0 else Change.KEPT

    return MeasuredImpact(
        sensitivity=change(Measure.SENSITIVITY),
        specificity=change(Measure.SPECIFICITY),
        auc=change(Measure.AUC),
    )
