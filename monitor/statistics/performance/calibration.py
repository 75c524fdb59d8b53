"""Whether probabilities mean what they say: intercept, slope, curve, ECE; temperature.

The terms are those of Van Calster et al. (2016, Journal of Clinical Epidemiology
74:167-176): *mean* calibration is the intercept with the slope held at 1, *weak* calibration
adds the slope, and the curve shows the rest. Scans may weigh the inverse of their chance of
inclusion: the likelihood is then the weighted one, and errors are the one-step jackknife's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.performance.proportions import (
    Booleans,
    Interval,
    Proportion,
    checked_patients,
    checked_scores,
    checked_truth,
    checked_weights,
    proportion,
    quantile_of,
)
from registry.errors import BadInputError, InsufficientDataError

#: Probabilities are moved this far from 0 and 1 before their logit is taken: about what
#: float32 resolves near 1, so that a saturated output weighs as much as it can be known.
CLIP = 1e-7

#: Newton's method on a concave likelihood of two parameters; more steps than it ever takes.
_STEPS = 100
_CONVERGED = 1e-10

#: Temperatures are looked for between these; beyond them the logits carry no calibration.
_COLDEST, _HOTTEST = 0.01, 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """An estimate with its interval."""

    estimate: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationLine:
    """How observed log-odds go with predicted ones; 0 and 1 are perfect."""

    #: in log-odds, the slope held at 1: above 0, findings are more frequent than predicted
    intercept: Coefficient
    #: below 1, predictions are too extreme
    slope: Coefficient
    scans: int
    patients: int


def calibration_line(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    level: float,
) -> CalibrationLine:
    """Return calibration intercept and slope by logistic regression on predicted log-odds.

    Standard errors are sandwich estimates summed by patient (Liang and Zeger 1986,
    Biometrika 73:13-22), with unequal weights jackknifed by patient; intervals are normal.

    Parameters
    ----------
    probabilities : of the positive class, in [0, 1], shape [n]
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    level : confidence of the intervals

    Raises
    ------
    InsufficientDataError
        If a class is missing, if there are fewer than two patients, if all predictions
        are the same, or if they separate the classes, so that no slope is the likeliest.
    """
    predicted, positive, groups = _checked(probabilities, truth, patients)
    log_odds = logit(np.clip(predicted, CLIP, 1.0 - CLIP))
    _refuse_separation(log_odds, positive)
    if groups.count < 2:
        raise InsufficientDataError(what="patients for a calibration", needed=2, got=1)
    ones = np.ones_like(log_odds)
    times = _times(weights, scans=len(predicted))
    alone = _logistic(ones[:, None], positive, offset=log_odds, patients=groups, weights=times)
    both = _logistic(
        np.stack([ones, log_odds], axis=1),
        positive,
        offset=np.zeros_like(log_odds),
        patients=groups,
        weights=times,
    )
    z = quantile_of(level)

    def coefficient(fitted: tuple[Floats, Floats], index: int) -> Coefficient:
        value, error = float(fitted[0][index]), float(fitted[1][index])
        return Coefficient(
            estimate=value,
            interval=Interval(low=value - z * error, high=value + z * error, level=level),
        )

    return CalibrationLine(
        intercept=coefficient(alone, 0),
        slope=coefficient(both, 1),
        scans=len(predicted),
        patients=groups.count,
    )


def _checked(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, patients: Identifiers | None
) -> tuple[Floats, Booleans, Patients]:
    positive = checked_truth(truth)
    predicted = checked_scores(probabilities, scans=len(positive), what="probabilities")
    if len(predicted) == 0:
        raise InsufficientDataError(what="scans for a calibration", needed=1, got=0)
    if predicted.min() < 0.0 or predicted.max() > 1.0:
        raise BadInputError(
            f"probabilities lie between {predicted.min():.4g} and {predicted.max():.4g}: "
            "pass probabilities, not logits"
        )
    return predicted, positive, checked_patients(patients, scans=len(positive))


def _times(weights: npt.ArrayLike | None, *, scans: int) -> Floats:
    """Return how often each scan counts, [scans]: once where weights are equal."""
    checked = checked_weights(weights, scans=scans)
    return np.ones(scans) if checked is None else checked


def _refuse_separation(log_odds: Floats, positive: Booleans) -> None:
    for chosen, what in ((positive, "with"), (~positive, "without")):
        if not chosen.any():
            raise InsufficientDataError(
                what=f"scans {what} the finding for a calibration", needed=1, got=0
            )
    rising, falling = log_odds[positive], log_odds[~positive]
    if rising.min() >= falling.max() or rising.max() <= falling.min():
        raise InsufficientDataError(
            what="scans of the two classes whose probabilities overlap", needed=2, got=0
        )


def _logistic(
    design: Floats,
    positive: Booleans,
    *,
    offset: Floats,
    patients: Patients,
    weights: Floats,
) -> tuple[Floats, Floats]:
    """Return coefficients [k] and their standard errors [k], clustered by patient.

    Newton's method, halving a step that does not raise the likelihood.
    """
    outcome = positive.astype(np.float64)

    def log_likelihood(beta: Floats) -> float:
        eta = design @ beta + offset
        return float((weights * outcome) @ eta - (weights * np.logaddexp(0.0, eta)).sum())

    def information(beta: Floats) -> tuple[Floats, Floats]:
        mean = expit(design @ beta + offset)
        residual = weights * (outcome - mean)
        return residual, (design.T * (weights * (mean * (1.0 - mean)))) @ design

    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        residual, hessian = information(beta)
        step = np.linalg.solve(hessian, design.T @ residual)
        before = log_likelihood(beta)
        while log_likelihood(beta + step) < before - 1e-9 and np.abs(step).max() > _CONVERGED:
            step = step / 2.0
        beta = beta + step
        if np.abs(step).max() <= _CONVERGED * (1.0 + np.abs(beta).max()):
            break
    residual, hessian = information(beta)
    scores = design * residual[:, None]
    by_patient = np.stack(
        [np.bincount(patients.codes, weights=column) for column in scores.T], axis=1
    )
    bread = np.linalg.inv(hessian)
    if (weights == 1.0).all():
        meat = patients.count / (patients.count - 1) * by_patient.T @ by_patient
        return beta, np.sqrt(np.diag(bread @ meat @ bread))
    # What the fit would move by without each patient, by one step: with unequal weights, one
    # may have drawn it to himself so far that his own residuals look small.
    mean = expit(design @ beta + offset)
    products = design[:, :, None] * design[:, None, :]
    curvature = (weights * mean * (1.0 - mean))[:, None, None] * products
    of_patients = np.zeros((patients.count, *hessian.shape))
    np.add.at(of_patients, patients.codes, curvature)
    moved = np.linalg.solve(hessian - of_patients, by_patient[:, :, None])[:, :, 0]
    covariance = (patients.count - 1) / patients.count * moved.T @ moved
    return beta, np.sqrt(np.diag(covariance))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Scans of similar probability: what was predicted, and how often it was so."""

    #: mean probability of the bin's scans
    predicted: float
    observed: Proportion


def reliability_curve(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    bins: int,
    level: float,
) -> tuple[ReliabilityBin, ...]:
    """Return the reliability curve in bins of about equally many scans, from low to high.

    Equal probabilities are never parted, so that there may be fewer bins than asked for.

    Parameters
    ----------
    probabilities : of the positive class, in [0, 1], shape [n]
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    bins : at most this many
    level : confidence of each bin's interval, clustered by patient
    """
    predicted, positive, groups = _checked(probabilities, truth, patients)
    codes = _bins(predicted, bins)
    times = _times(weights, scans=len(predicted))

    def in_bin(chosen: Booleans) -> ReliabilityBin:
        return ReliabilityBin(
            predicted=float(np.average(predicted[chosen], weights=times[chosen])),
            observed=proportion(
                positive[chosen], groups.codes[chosen], weights=times[chosen], level=level
            ),
        )

    return tuple(in_bin(codes == code) for code in range(codes.max() + 1))


def _bins(predicted: Floats, bins: int) -> Integers:
    """Return each scan's bin [n], 0 .. at most bins - 1, without empty ones between."""
    if bins < 1:
        raise BadInputError(f"a reliability curve needs at least 1 bin, got {bins}")
    ranks = np.searchsorted(np.sort(predicted), predicted, side="left")
    _, codes = np.unique(ranks * bins // len(predicted), return_inverse=True)
    return codes.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationError:
    """Expected calibration error: the mean gap between predicted and observed."""

    #: as binned; above 0 by chance even for perfect probabilities
    estimate: float
    interval: Interval
    bins: int
    scans: int
    patients: int


def expected_calibration_error(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    bins: int,
    level: float,
    resamples: int,
    seed: int,
) -> CalibrationError:
    """Return the expected calibration error in equally filled bins, with its interval.

    Naeini, Cooper and Hauskrecht (2015), AAAI 29:2901-2907. Binning noise adds to the
    error, and resampling adds it once more. The upper bound is therefore the bootstrap's
    quantile less the bias that the bootstrap shows. The lower bound is 0 unless the error
    exceeds what honest probabilities have by chance, which flipping the signs of whole
    patients' residuals imitates; then it is the basic bootstrap's, twice the estimate
    less the upper quantile.

    Parameters
    ----------
    probabilities : of the positive class, in [0, 1], shape [n]
    truth : 0 or 1, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    weights : inverse chances of inclusion, shape [n], or None where these are equal
    bins : at most this many
    level : confidence of the interval
    resamples : number of bootstrap samples of patients
    seed : of the generators
    """
    predicted, positive, groups = _checked(probabilities, truth, patients)
    codes = _bins(predicted, bins)
    residuals = positive - predicted
    times = _times(weights, scans=len(predicted))

    def error(counts: Floats) -> float:
        by_bin = np.bincount(codes, weights=counts * times * residuals)
        return float(np.abs(by_bin).sum() / np.abs(counts * times).sum())

    estimate = error(np.ones_like(residuals))
    drawn = np.array(
        [error(counts) for counts in resampled_weights(groups, resamples=resamples, seed=seed)]
    )
    # A stream of its own, independent of the resamples of the same seed.
    rng = np.random.default_rng((seed, 1))
    honest = [
        error(rng.choice((-1.0, 1.0), size=groups.count)[groups.codes])
        for _ in range(resamples)
    ]
    tail = (1.0 - level) / 2.0
    large = float(np.quantile(drawn, 1.0 - tail))
    by_chance = estimate <= float(np.quantile(honest, 1.0 - tail))
    bias = float(drawn.mean()) - estimate
    return CalibrationError(
        estimate=estimate,
        interval=Interval(
            low=0.0 if by_chance else max(0.0, 2.0 * estimate - large),
            high=min(1.0, max(estimate, large - bias)),
            level=level,
        ),
        bins=int(codes.max()) + 1,
        scans=len(predicted),
        patients=groups.count,
    )


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the temperature that makes softmax(logits / temperature) likeliest.

    Guo et al. (2017), ICML, section 4.2. The likelihood is concave in 1 / temperature,
    so that its slope has one root. For a sigmoid output pass the logits [0, z].

    Parameters
    ----------
    logits : shape [n, k], k >= 2
    labels : class of each scan, 0 .. k - 1, shape [n]

    Raises
    ------
    BadInputError
        If shapes, logits or classes cannot be used.
    InsufficientDataError
        If no temperature from 0.01 to 100 is the likeliest: every scan is classified
        right, or the logits say nothing of the class.
    """
    values = np.asarray(logits, dtype=np.float64)
    classes = np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2 or classes.shape != values.shape[:1]:
        raise BadInputError(
            f"logits have shape {list(values.shape)} and labels {list(classes.shape)}: "
            "pass logits of shape [scans, classes] and one label for each scan"
        )
    if len(values) == 0:
        raise InsufficientDataError(what="scans for a temperature", needed=1, got=0)
    if not np.isfinite(values).all():
        raise BadInputError("logits hold NaN or infinities: look at the network's precision")
    if (
        classes.dtype.kind not in "biu"
        or not ((classes >= 0) & (classes < values.shape[1])).all()
    ):
        raise BadInputError(
            f"labels must be classes 0 to {values.shape[1] - 1}, got {classes.dtype} values "
            f"from {classes.min()} to {classes.max()}"
        )
    chosen = values[np.arange(len(values)), classes.astype(np.int64)].sum()

    def slope(log_temperature: float) -> float:
        shares = softmax(values * math.exp(-log_temperature), axis=1)
        return float(chosen - (shares * values).sum())

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if slope(low) >= 0.0 or slope(high) <= 0.0:
        raise InsufficientDataError(
            what="misclassified scans that bound the temperature"
            if slope(low) >= 0.0
            else "scans whose logits favour their class",
            needed=1,
            got=0,
        )
    return math.exp(brentq(slope, low, high, xtol=1e-10))
