"""Comparisons in words, for gates' sentences."""

from __future__ import annotations

from monitor.statistics.performance.proportions import Interval
from retrain.gates.measures import Comparison, Measure


def level_of(alpha: float) -> float:
    """Return the two-sided level whose interval a one-sided test at `alpha` agrees with."""
    return 1.0 - 2.0 * alpha


def p_in_words(p_value: float) -> str:
    """Return a p-value for a sentence: two significant digits, never 0.

    >>> p_in_words(0.0312), p_in_words(3e-9)
    ('p = 0.031', 'p < 0.0001')
    """
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def amount(measure: Measure, value: float, *, signed: bool = False) -> str:
    """Return a measure, or a difference, as it is read: points and per cent, or an AUC.

    >>> amount(Measure.SENSITIVITY, 0.9321), amount(Measure.AUC, 0.0412, signed=True)
    ('93.2 %', '+0.041')
    """
    if measure is Measure.AUC:
        return f"{value:+.3f}" if signed else f"{value:.3f}"
    return f"{100 * value:+.1f} points" if signed else f"{100 * value:.1f} %"


def interval_in_words(measure: Measure, interval: Interval) -> str:
    """Return the interval of a difference, without its unit."""
    factor, digits = (1, 3) if measure is Measure.AUC else (100, 1)
    low, high = factor * interval.low, factor * interval.high
    return f"{100 * interval.level:.4g} % interval {low:+.{digits}f} to {high:+.{digits}f}"


def compared(comparison: Comparison, *, where: str) -> str:
    """Return what was compared and by how much it differs, without the verdict."""
    measure = comparison.measure
    name = "AUC" if measure is Measure.AUC else measure.value.capitalize()
    difference = comparison.difference
    return (
        f"{name} {where}: candidate {amount(measure, comparison.candidate)}, "
        f"{comparison.against} {amount(measure, comparison.benchmark)}, difference "
        f"{amount(measure, difference.estimate, signed=True)} "
        f"({interval_in_words(measure, difference.interval)}; {comparison.scans} scans)"
    )
