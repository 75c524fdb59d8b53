"""How well a champion reads scans that have no labels, as far as its own confidence tells.

Two assumptions allow an estimate, and which one holds is for the cause of a shift to say.

*Covariate shift*: a score means what it meant on scans of its kind, P(truth | score) = p stays.
What a confusion matrix and an area are expected to be follows (`expected_measures`): it is
confidence-based performance estimation (Kivimäki, Białek, Kuberski and Nurminen 2025, arXiv
2505.05295).

*Label shift*: P(score | truth) stays. Sensitivity, specificity and area are those of the
labelled reference, and predictive values follow from the likeliest prevalence (`label_shift`).
There an expected confusion matrix would be wrong, and under a technical shift both are.

Intervals are of the population that the window's patients come from. They carry the
calibration's error and the window's sampling, both by patients drawn anew together, and are
symmetric on the logit scale. What labels of these very scans would say scatters around the
estimate by their own sampling besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr

from monitor.statistics.embeddings import Embeddings, Floats
from monitor.statistics.patients import Identifiers
from monitor.statistics.performance.discrimination import estimate_auc
from monitor.statistics.performance.expected_measures import MEASURES, expected_measures
from monitor.statistics.performance.label_shift import (
    LEAST_FIT,
    LabelShift,
    at_prevalence,
    estimate_label_shift,
    likeliest_prevalence,
    reference_prevalences,
)
from monitor.statistics.performance.proportions import (
    Interval,
    checked_patients,
    operating_point,
    proportion,
    quantile_of,
    wilson_bounds,
)
from monitor.statistics.performance.recalibration import (
    CalibratedReference,
    checked_probabilities,
    redrawn_window,
)

#: Measures of the model itself, which can fall; the others follow the prevalence, too.
OF_THE_MODEL = MEASURES[:3]
#: Largest share of scores beyond the reference's, where the calibration is extrapolated.
MOST_OUTSIDE = 0.1
#: Largest share of a class that those scores may hold in doubt: a score above all that were
#: seen means at least as much as the highest of them, and so is in doubt by what is left to 1.
MOST_DOUBT = 0.02
#: An expected confusion matrix that misses the reference's own by more than this, and by more
#: than chance, does not fit.
MISFIT = 0.03
_CERTAIN_MISFIT = 3.0
#: Fewest scans that are expected in either class.
LEAST_EXPECTED = 5.0
#: Share of redraws that may lack what a measure is a share of.
_MAY_LACK = 0.05
_NEAREST = 1e-6


class Assumption(StrEnum):
    """What an estimate without labels rests on."""

    COVARIATE_SHIFT = "covariate shift"
    LABEL_SHIFT = "label shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate with its interval."""

    estimate: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Window less reference, which share the reference's error."""

    estimate: float
    standard_error: float

    def p_fall(self, margin: float) -> float:
        """Return the one-sided p-value of "it fell by at most the margin"."""
        beyond = self.estimate + margin
        if self.standard_error == 0.0:
            return 0.0 if beyond < 0.0 else 1.0
        return float(ndtr(beyond / self.standard_error))


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedPerformance:
    """How well a champion reads a window, estimated without its labels."""

    assumption: Assumption
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    #: None where hardly a scan is called positive
    ppv: Estimate | None
    #: None where hardly a scan is called negative
    npv: Estimate | None
    prevalence: Estimate
    #: of `OF_THE_MODEL`; by assumption none under label shift
    differences: Mapping[str, Difference]
    scans: int
    patients: int

    def measures(self) -> dict[str, Estimate | None]:
        return {name: getattr(self, name) for name in MEASURES}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEstimate:
    """Why nothing is estimated."""

    #: a clause that goes on from "no estimate: "
    reason: str


def estimate_under_covariate_shift(
    reference: CalibratedReference,
    scores: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    vectors: Embeddings | None = None,
    threshold: float,
    level: float,
    seed: int,
) -> EstimatedPerformance | NoEstimate:
    """Estimate performance where a score means what it meant on the reference.

    Nothing is estimated where that can be seen not to hold: where the calibration does not
    explain the reference itself, or where scores lie beyond those it was learnt from.

    Parameters
    ----------
    reference : the champion's calibrated reference scores
    scores : of the window, probabilities as the champion says them, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    vectors : the scans' embeddings, shape [n, d], where the reference is calibrated on such
    threshold : positive is `score >= threshold`
    level : confidence of the intervals
    seed : of the window's redraws
    """
    said = checked_probabilities(scores)
    groups = checked_patients(patients, scans=len(said))
    meaning = reference.probabilities(said, vectors)
    broken = (
        _few(meaning) or _misfit(reference, threshold) or _outside(reference, said, meaning)
    )
    if broken is not None:
        return NoEstimate(reason=broken)

    def expected(probabilities: Floats, weights: Floats) -> dict[str, Floats]:
        return expected_measures(probabilities, weights, scores=said, threshold=threshold)

    found = expected(meaning, np.ones((1, len(said))))
    redrawn = expected(
        reference.redrawn_probabilities(said, vectors), redrawn_window(groups, seed=seed)
    )
    before = _measured(reference, np.ones((1, len(reference.scores))), threshold)
    redrawn_before = _measured(reference, reference.redrawn_weights(), threshold)
    independent = groups.count / len(said)
    whole = {"sensitivity": meaning.sum(), "specificity": (1.0 - meaning).sum()}

    def estimate(name: str) -> Estimate:
        return _with_interval(
            float(found[name][0]),
            redrawn[name],
            independent=independent * float(whole.get(name, len(said))),
            level=level,
        )

    return EstimatedPerformance(
        assumption=Assumption.COVARIATE_SHIFT,
        auc=estimate("auc"),
        sensitivity=estimate("sensitivity"),
        specificity=estimate("specificity"),
        ppv=_if_known(redrawn["ppv"], lambda: estimate("ppv")),
        npv=_if_known(redrawn["npv"], lambda: estimate("npv")),
        prevalence=estimate("prevalence"),
        differences={
            name: Difference(
                estimate=float(found[name][0] - before[name][0]),
                standard_error=float(np.nanstd(redrawn[name] - redrawn_before[name])),
            )
            for name in OF_THE_MODEL
        },
        scans=len(said),
        patients=groups.count,
    )


def estimate_under_label_shift(
    reference: CalibratedReference,
    scores: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    threshold: float,
    level: float,
    seed: int,
) -> EstimatedPerformance | NoEstimate:
    """Estimate performance where only the frequency of the finding changed.

    Nothing is estimated where the frequency does not explain the window's scores. Predictive
    values are means of the probabilities at the new prevalence, so that a class without
    errors on the reference does not make them certain.

    Parameters are those of `estimate_under_covariate_shift`, the reference calibrated without
    vectors; errors are those of `estimate_label_shift`.
    """
    said = checked_probabilities(scores)
    groups = checked_patients(patients, scans=len(said))
    shift = estimate_label_shift(reference, said, groups.codes, level=level, seed=seed)
    if not shift.explains:
        return NoEstimate(reason=unexplained(shift))
    weights = redrawn_window(groups, seed=seed)
    before, redrawn_before = reference_prevalences(reference)

    def expected(meaning: Floats, old: npt.ArrayLike, weights: Floats) -> dict[str, Floats]:
        share = likeliest_prevalence(meaning, before=old, weights=weights)
        now = at_prevalence(
            np.atleast_2d(meaning),
            before=np.asarray(old)[..., None],
            after=np.clip(share, _NEAREST, 1.0 - _NEAREST)[:, None],
        )
        return expected_measures(now, weights, scores=said, threshold=threshold)

    found = expected(reference.probabilities(said), before, np.ones((1, len(said))))
    redrawn = expected(reference.redrawn_probabilities(said), redrawn_before, weights)

    def estimate(name: str) -> Estimate:
        return _with_interval(
            float(found[name][0]),
            redrawn[name],
            independent=float(groups.count),
            level=level,
        )

    labelled = reference.patients.codes
    point = operating_point(
        reference.scores, reference.truth, threshold=threshold, patients=labelled, level=level
    )
    area = estimate_auc(reference.scores, reference.truth, labelled, level=level)
    return EstimatedPerformance(
        assumption=Assumption.LABEL_SHIFT,
        auc=Estimate(estimate=area.estimate, interval=area.interval),
        sensitivity=Estimate(
            estimate=point.sensitivity.estimate, interval=point.sensitivity.interval
        ),
        specificity=Estimate(
            estimate=point.specificity.estimate, interval=point.specificity.interval
        ),
        ppv=_if_known(redrawn["ppv"], lambda: estimate("ppv")),
        npv=_if_known(redrawn["npv"], lambda: estimate("npv")),
        prevalence=Estimate(estimate=shift.prevalence, interval=shift.interval),
        differences={
            name: Difference(estimate=0.0, standard_error=0.0) for name in OF_THE_MODEL
        },
        scans=len(said),
        patients=groups.count,
    )


def unexplained(shift: LabelShift) -> str:
    """Say that a prevalence does not explain a window's scores."""
    return (
        f"no prevalence explains the scores (p = {shift.fit_p_value:.2g}, and above "
        f"{LEAST_FIT:g} is asked for), so more than the prevalence changed"
    )


def called_positive(
    scores: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    threshold: float,
    level: float,
) -> Estimate:
    """Return the share of scans that are called positive: seen, and so true of any shift."""
    said = checked_probabilities(scores)
    share = proportion(said >= threshold, patients, level=level)
    return Estimate(estimate=share.estimate, interval=share.interval)


def _measured(
    reference: CalibratedReference, weights: Floats, threshold: float
) -> dict[str, Floats]:
    """Return the labelled reference's performance under each weighting, [B] each."""
    truth = reference.truth.astype(np.float64)
    return expected_measures(truth, weights, scores=reference.scores, threshold=threshold)


def _few(meaning: Floats) -> str | None:
    for expected, what in ((meaning.sum(), "with"), ((1.0 - meaning).sum(), "without")):
        if expected < LEAST_EXPECTED:
            return (
                f"{expected:.1f} scans {what} the finding are expected in the window, and "
                f"{LEAST_EXPECTED:g} are needed"
            )
    return None


def _outside(reference: CalibratedReference, scores: Floats, meaning: Floats) -> str | None:
    ends = np.array([reference.scores.min(), reference.scores.max()])
    below, above = np.count_nonzero(scores < ends[0]), np.count_nonzero(scores > ends[1])
    share = (below + above) / len(scores)
    if share > MOST_OUTSIDE:
        return (
            f"{share:.0%} of the scores lie beyond those of the labelled reference (at most "
            f"{MOST_OUTSIDE:.0%} may), so nothing says what they mean"
        )
    lowest, highest = reference.probabilities(ends)
    doubt = below * lowest + above * (1.0 - highest)
    in_doubt = float(doubt / min(meaning.sum(), (1.0 - meaning).sum()))
    if in_doubt > MOST_DOUBT:
        return (
            "scores beyond those of the labelled reference could stand for "
            f"{in_doubt:.0%} of a class (at most {MOST_DOUBT:.0%} may)"
        )
    return None


def _misfit(reference: CalibratedReference, threshold: float) -> str | None:
    """Compare what was expected of reference patients unseen with what their labels say."""

    def gaps(weights: Floats) -> dict[str, Floats]:
        expected = expected_measures(
            reference.held_out, weights, scores=reference.scores, threshold=threshold
        )
        measured = _measured(reference, weights, threshold)
        return {name: expected[name] - measured[name] for name in OF_THE_MODEL}

    gap, redrawn = gaps(np.ones((1, len(reference.scores)))), gaps(reference.redrawn_weights())
    for name in OF_THE_MODEL:
        size, scatter = abs(float(gap[name][0])), float(np.nanstd(redrawn[name]))
        if size > MISFIT and size > _CERTAIN_MISFIT * scatter:
            return (
                f"on the labelled reference itself the estimated {name} is off by {size:.2f}, "
                "so the scores cannot be calibrated"
            )
    return None


def _if_known(redrawn: Floats, estimate: Callable[[], Estimate]) -> Estimate | None:
    """Return the estimate unless too many redraws hold nothing that it is a share of."""
    return None if np.mean(np.isnan(redrawn)) > _MAY_LACK else estimate()


def _with_interval(
    estimate: float, redrawn: Floats, *, independent: float, level: float
) -> Estimate:
    """Return an estimate with its interval, symmetric on the logit scale.

    An estimate of exactly 0 or 1 is moved by no redraw; its interval is Wilson's for as many
    `independent` scans.
    """
    z = quantile_of(level)
    if not _NEAREST < estimate < 1.0 - _NEAREST:
        low, high = wilson_bounds(round(estimate) * independent, independent, z=z)
    else:
        known = np.clip(redrawn[~np.isnan(redrawn)], _NEAREST, 1.0 - _NEAREST)
        error, centre = float(np.std(logit(known))), float(logit(estimate))
        low = min(estimate, float(expit(centre - z * error)))
        high = max(estimate, float(expit(centre + z * error)))
    return Estimate(
        estimate=estimate,
        interval=Interval(low=min(low, estimate), high=max(high, estimate), level=level),
    )
