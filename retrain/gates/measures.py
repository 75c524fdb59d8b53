"""Measures of performance: estimated for one model, compared between two."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from monitor.statistics.performance.discrimination import Area, compare_aucs, estimate_auc
from monitor.statistics.performance.independent_differences import independent_difference
from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.proportions import Interval, Proportion, proportion
from retrain.gates.results import Booleans, Floats, PairedResults, Results


class Measure(StrEnum):
    """What a candidate is compared in."""

    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"
    AUC = "AUC"

    def scans_in(self, truth: Booleans) -> int:
        """Return how many of the scans the measure is computed from."""
        match self:
            case Measure.SENSITIVITY:
                return int(np.count_nonzero(truth))
            case Measure.SPECIFICITY:
                return int(np.count_nonzero(~truth))
            case Measure.AUC:
                return len(truth)


#: They decide together; the AUC is secondary.
CO_PRIMARY = (Measure.SENSITIVITY, Measure.SPECIFICITY)


class Difference(Protocol):
    """Candidate less benchmark."""

    @property
    def estimate(self) -> float:
        """The difference, in [-1, 1]."""

    @property
    def interval(self) -> Interval:
        """Its interval."""

    def p_greater(self, than: float) -> float:
        """Return the one-sided p-value against "at most `than`"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate's measure against a benchmark's."""

    measure: Measure
    candidate: float
    benchmark: float
    #: what the candidate is compared with, in words
    against: str
    statistic: str
    difference: Difference
    #: one-sided, against "the candidate is no better"
    p_superior: float
    #: the candidate's scans
    scans: int


def estimate(measure: Measure, results: Results, *, level: float) -> Proportion | Area:
    """Return one model's measure with its interval by patient.

    Raises
    ------
    InsufficientDataError
        If a class that the measure needs is missing.
    """
    if measure is Measure.AUC:
        return estimate_auc(
            results.probabilities,
            results.truth,
            results.patients,
            weights=results.weights,
            level=level,
        )
    rows = results.truth if measure is Measure.SENSITIVITY else ~results.truth
    right = results.calls == results.truth
    return proportion(
        right[rows],
        results.patients[rows],
        weights=weights_of(results.weights, rows),
        level=level,
    )


def compare(measure: Measure, results: PairedResults, *, level: float) -> Comparison:
    """Compare candidate and champion on the same scans.

    Raises
    ------
    InsufficientDataError
        If a class that the measure needs is missing.
    """
    several = len(np.unique(results.patients)) < results.scans
    weighed = _weighed(results.weights is not None)
    if measure is Measure.AUC:
        areas = compare_aucs(
            results.champion,
            results.candidate,
            results.truth,
            results.patients,
            weights=results.weights,
            level=level,
        )
        return Comparison(
            measure=measure,
            candidate=areas.second,
            benchmark=areas.first,
            against="the champion",
            statistic=(
                "paired AUCs, Obuchowski by patient" if several else "paired AUCs, DeLong"
            )
            + weighed,
            difference=areas,
            p_superior=areas.p_greater(0.0),
            scans=areas.scans,
        )
    rows = results.truth if measure is Measure.SENSITIVITY else ~results.truth
    champion_right = results.champion_calls == results.truth
    candidate_right = results.candidate_calls == results.truth
    rates = paired_difference(
        champion_right[rows],
        candidate_right[rows],
        results.patients[rows],
        weights=weights_of(results.weights, rows),
        level=level,
    )
    return Comparison(
        measure=measure,
        candidate=rates.second,
        benchmark=rates.first,
        against="the champion",
        statistic=(
            "paired proportions, Tango's score by patient (Rao-Scott)"
            if several
            else "paired proportions, Tango's score"
            + ("" if weighed else " and McNemar's mid-p")
        )
        + weighed,
        difference=rates,
        p_superior=rates.p_superior(),
        scans=rates.scans,
    )


def compare_with_reference(
    measure: Measure, results: PairedResults, reference: PairedResults, *, level: float
) -> Comparison:
    """Compare the candidate with what the champion does on the reference locked set.

    Raises
    ------
    InsufficientDataError
        If a class that the measure needs is missing in either set.
    """
    benchmark = estimate(measure, reference.of_champion, level=level)
    candidate = estimate(measure, results.of_candidate, level=level)
    difference = independent_difference(benchmark, candidate, level=level)
    return Comparison(
        measure=measure,
        candidate=candidate.estimate,
        benchmark=benchmark.estimate,
        against="the champion on the reference",
        statistic=(
            "independent AUCs, joined intervals (Zou and Donner)"
            if measure is Measure.AUC
            else "independent proportions, Newcombe's score"
        )
        + _weighed(results.weights is not None or reference.weights is not None),
        difference=difference,
        p_superior=difference.p_greater(0.0),
        scans=measure.scans_in(results.truth),
    )


def weights_of(weights: Floats | None, rows: Booleans) -> Floats | None:
    """Return the weights of some scans."""
    return None if weights is None else weights[rows]


def _weighed(weighted: bool) -> str:
    return ", weighted by inverse inclusion" if weighted else ""
