"""A candidate's probabilities must be shown to mean what they say."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.statistics.performance.calibration import (
    CalibrationError,
    CalibrationLine,
    calibration_line,
    expected_calibration_error,
    reliability_curve,
)
from monitor.statistics.performance.proportions import Interval
from registry.canonical import Json
from registry.errors import InsufficientDataError
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import PairedResults
from retrain.gates.sizes import too_few
from retrain.gates.wording import level_of


def calibration(
    drifted: PairedResults, *, reference: PairedResults, limits: GateLimits
) -> GateOutcome:
    """Decide whether the candidate is calibrated on both locked sets.

    The intervals of intercept and slope must lie within the plan's ranges, and that of
    the expected calibration error below its limit: what is not shown does not pass.
    Where no slope exists, because the classes are few or separated, it is not evaluable.
    """
    parts: list[GateOutcome] = []
    for which, results in (("drifted", drifted), ("reference", reference)):
        parts += _on_one_set(which, results, limits)
    return all_of(Gate.CALIBRATION, parts)


def _on_one_set(which: str, results: PairedResults, limits: GateLimits) -> list[GateOutcome]:
    level = level_of(limits.calibration.alpha)
    short = too_few(f"{Gate.CALIBRATION}/{which}", results, which=which, limits=limits)
    if short is not None:
        return [short]
    error = _error(
        which,
        expected_calibration_error(
            results.candidate,
            results.truth,
            results.patients,
            weights=results.weights,
            bins=limits.calibration.bins,
            level=level,
            resamples=limits.calibration.resamples,
            seed=limits.calibration.seed,
        ),
        limits,
        curve=_curve(results, limits, level=level),
    )
    try:
        line = calibration_line(
            results.candidate,
            results.truth,
            results.patients,
            weights=results.weights,
            level=level,
        )
    except InsufficientDataError as reason:
        return [
            not_evaluable(
                f"{Gate.CALIBRATION}/{which}/slope",
                statistic="logistic calibration",
                n=results.scans,
                sentence=(
                    f"Calibration in the {which} set has no slope ({reason}): "
                    "let a person look at the reliability curve."
                ),
            ),
            error,
        ]
    return [*_line(which, line, limits), error]


def _line(which: str, line: CalibrationLine, limits: GateLimits) -> list[GateOutcome]:
    parts = []
    for name, found, allowed in (
        ("intercept", line.intercept, limits.calibration.intercept),
        ("slope", line.slope, limits.calibration.slope),
    ):
        interval = found.interval
        passed = allowed.low <= interval.low and interval.high <= allowed.high
        # The bound that the interval comes nearest to, or crosses farthest.
        nearest = (
            allowed.low
            if interval.low - allowed.low < allowed.high - interval.high
            else allowed.high
        )
        parts.append(
            _part(
                f"{Gate.CALIBRATION}/{which}/{name}",
                statistic="logistic calibration, sandwich by patient",
                estimate=found.estimate,
                interval=interval,
                margin=nearest,
                n=line.scans,
                passed=passed,
                what=f"Calibration {name} in the {which} set",
                allowed=f"within {allowed.low:g} to {allowed.high:g}",
            )
        )
    return parts


def _curve(results: PairedResults, limits: GateLimits, *, level: float) -> Json:
    """Return the points of the reliability curve, from low to high, for plotting."""
    return [
        {
            "predicted": point.predicted,
            "observed": point.observed.estimate,
            "low": point.observed.interval.low,
            "high": point.observed.interval.high,
            "scans": point.observed.scans,
        }
        for point in reliability_curve(
            results.candidate,
            results.truth,
            results.patients,
            weights=results.weights,
            bins=limits.calibration.bins,
            level=level,
        )
    ]


def _error(
    which: str, error: CalibrationError, limits: GateLimits, *, curve: Json
) -> GateOutcome:
    return _part(
        f"{Gate.CALIBRATION}/{which}/error",
        statistic=f"expected calibration error, {error.bins} bins, bootstrap by patient",
        estimate=error.estimate,
        interval=error.interval,
        margin=limits.calibration.error,
        n=error.scans,
        passed=error.interval.high <= limits.calibration.error,
        what=f"Calibration error in the {which} set",
        allowed=f"at most {limits.calibration.error:g}",
        figures={"curve": curve},
    )


def _part(
    name: str,
    *,
    statistic: str,
    estimate: float,
    interval: Interval,
    margin: float,
    n: int,
    passed: bool,
    what: str,
    allowed: str,
    figures: Mapping[str, Json] | None = None,
) -> GateOutcome:
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=statistic,
        estimate=estimate,
        interval=interval,
        margin=margin,
        p_value=None,
        n=n,
        sentence=(
            f"{what}: {estimate:.2f} ({100 * interval.level:.4g} % interval {interval.low:.2f} "
            f"to {interval.high:.2f}; {n} scans), {'shown' if passed else 'not shown'} to be "
            f"{allowed}."
        ),
        figures=figures or {},
    )
