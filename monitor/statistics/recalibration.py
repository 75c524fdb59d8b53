"""What a champion's scores mean: probabilities learnt from labelled reference scans.

The family is beta calibration (Kull, Silva Filho and Flach 2017, AISTATS 54:623-631),

    logit p = c + a log s - b log(1 - s),    a, b >= 0,

which holds Platt's scaling (a = b) and the identity (a = b = 1, c = 0). Truth is drawn in by
Platt's (1999) (m + 1) / (m + 2) and 1 / (k + 2), so that scores which separate the classes
have a likeliest calibration, too. Patients are drawn anew and the calibration is fitted to
each redraw, so that whatever is estimated from it can carry its error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.calibration import CLIP
from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.patients import Identifiers, Patients, some_patients
from monitor.statistics.proportions import (
    Booleans,
    checked_patients,
    checked_scores,
    checked_truth,
)
from registry.errors import BadInputError, InsufficientDataError

#: Fewest patients with scans of a class. Of fewer, intervals hold less than they say.
LEAST_PATIENTS = 20
#: More patients say no more of three coefficients than a window's sampling hides.
_MOST_SCANS = 5000
REDRAWS = 400
#: Redraws that are fitted together, so that they need little memory.
_AT_ONCE = 50
_FOLDS = 5

#: Newton's method on a concave likelihood of three parameters; more steps than it ever takes.
_STEPS = 60
_CONVERGED = 1e-9
#: Keeps the system solvable where all scores are the same.
_RIDGE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibratedReference:
    """A champion's scores on labelled reference scans, and what they mean."""

    #: probability of the positive class as the champion says it, [n]
    scores: Floats
    #: [n]
    truth: Booleans
    patients: Patients
    #: intercept, of log s, of -log(1 - s): [3]
    coefficients: Floats
    #: how often each scan counts when patients are drawn anew: [REDRAWS, n]
    draws: npt.NDArray[np.uint16]
    #: the coefficients for each redraw: [REDRAWS, 3]
    redrawn: Floats
    #: what each scan's score means by a calibration that did not see its patient, [n]
    held_out: Floats

    @classmethod
    def fit(
        cls,
        scores: npt.ArrayLike,
        truth: npt.ArrayLike,
        patients: Identifiers | None = None,
        *,
        seed: int,
    ) -> Self:
        """Calibrate scores. Of more than 5,000 scans, those of random patients are taken.

        Parameters
        ----------
        scores : probabilities as the champion says them, in [0, 1], shape [n]
        truth : 0 or 1, shape [n]
        patients : identifiers, shape [n], or None where each scan is its own patient
        seed : of the redraws and folds

        Raises
        ------
        BadInputError
            If scores are no probabilities, or shapes differ.
        InsufficientDataError
            If fewer than 20 patients have scans with, or without the finding, or if higher
            scores do not go with the finding.
        """
        positive = checked_truth(truth)
        said = checked_probabilities(scores, scans=len(positive))
        groups = checked_patients(patients, scans=len(positive))
        chosen = some_patients(groups, scans=_MOST_SCANS, rng=np.random.default_rng(seed))
        said, positive, groups = said[chosen], positive[chosen], groups.subset(chosen)
        for of_class, what in ((positive, "with"), (~positive, "without")):
            having = len(np.unique(groups.codes[of_class]))
            if having < LEAST_PATIENTS:
                raise InsufficientDataError(
                    what=f"labelled reference patients with scans {what} the finding",
                    needed=LEAST_PATIENTS,
                    got=having,
                )
        fitted = beta_coefficients(said, positive, np.ones((1, len(said))))[0]
        if not fitted[1:].any():
            raise InsufficientDataError(
                what="labelled reference scans whose scores rise with the finding",
                needed=1,
                got=0,
            )
        folds = _folds(groups, seed=seed)
        without = beta_coefficients(
            said, positive, np.array([folds != fold for fold in range(_FOLDS)], dtype=float)
        )
        draws = _drawn(groups, seed=2 * seed).astype(np.uint16)
        return cls(
            scores=said,
            truth=positive,
            patients=groups,
            coefficients=fitted,
            draws=draws,
            redrawn=np.concatenate(
                [
                    beta_coefficients(
                        said, positive, draws[start : start + _AT_ONCE].astype(float)
                    )
                    for start in range(0, REDRAWS, _AT_ONCE)
                ]
            ),
            held_out=expit(np.einsum("nk,nk->n", _features(said), without[folds])),
        )

    def probabilities(self, scores: Floats) -> Floats:
        """Return what scores mean: P(finding) of each, [n]."""
        meaning: Floats = self._meaning(self.coefficients[None], scores)[0]
        return meaning

    def redrawn_probabilities(self, scores: Floats) -> Floats:
        """Return what scores mean by each redraw, [REDRAWS, n]."""
        return self._meaning(self.redrawn, scores)

    @staticmethod
    def _meaning(coefficients: Floats, scores: Floats) -> Floats:
        # Rounded to 1, a probability would be beyond doubt at any prevalence.
        meaning: Floats = np.clip(expit(coefficients @ _features(scores).T), CLIP, 1.0 - CLIP)
        return meaning

    def redrawn_weights(self) -> Floats:
        """Return how often each scan counts in each redraw, [REDRAWS, n]."""
        return self.draws.astype(np.float64)


def checked_probabilities(scores: npt.ArrayLike, *, scans: int | None = None) -> Floats:
    """Return probabilities as float64 [n], or refuse them.

    Raises
    ------
    BadInputError
        If one lies outside [0, 1], is not finite, or their number is another.
    """
    expected = len(np.atleast_1d(scores)) if scans is None else scans
    said = checked_scores(scores, scans=expected, what="scores")
    if len(said) and (said.min() < 0.0 or said.max() > 1.0):
        raise BadInputError(
            f"scores lie between {said.min():.4g} and {said.max():.4g}: "
            "pass probabilities, not logits"
        )
    return said


def redrawn_window(patients: Patients, *, seed: int) -> Floats:
    """Return how often each scan of a window counts when its patients are drawn anew.

    Independent of the reference's redraws, one of which goes with each: [REDRAWS, n].
    """
    # The reference's redraws use even seeds, the windows' odd ones.
    return _drawn(patients, seed=2 * seed + 1)


def _drawn(patients: Patients, *, seed: int) -> Floats:
    return np.stack(list(resampled_weights(patients, resamples=REDRAWS, seed=seed)))


def _folds(patients: Patients, *, seed: int) -> Integers:
    """Return each scan's fold [n]: whole patients, in random order."""
    order = np.random.default_rng((seed, 2)).permutation(patients.count)
    folds: Integers = (order % _FOLDS)[patients.codes]
    return folds


def _features(scores: Floats) -> Floats:
    """Return 1, log s and -log(1 - s) of each score, [n, 3]."""
    safe = np.clip(scores, CLIP, 1.0 - CLIP)
    return np.stack([np.ones_like(safe), np.log(safe), -np.log1p(-safe)], axis=1)


def beta_coefficients(scores: Floats, positive: Booleans, weights: Floats) -> Floats:
    """Return the likeliest beta calibration under each weighting of scans, [B, 3].

    A coefficient that would be negative is held at 0 and the rest fitted again. With one
    negative that is the constrained optimum: the likelihood is concave, and the way from its
    peak to any permitted point leads through the face on which that coefficient is 0.

    Parameters
    ----------
    scores : in [0, 1], shape [n]
    positive : the truth, shape [n]
    weights : how often each scan counts, shape [B, n]
    """
    features = _features(scores)
    found = _likeliest(features, positive, weights)
    for held in (1, 2):
        wrong = np.flatnonzero(found[:, held] < 0.0)
        if len(wrong) == 0:
            continue
        kept = np.array([0, 3 - held])
        found[wrong] = 0.0
        found[np.ix_(wrong, kept)] = _likeliest(features[:, kept], positive, weights[wrong])
        # What is left may turn negative in its turn: then the scores say nothing.
        nothing = wrong[(found[wrong] < 0.0)[:, 1:].any(axis=1)]
        if len(nothing):
            found[nothing] = 0.0
            found[nothing, 0] = _likeliest(features[:, :1], positive, weights[nothing])[:, 0]
    return found


def _likeliest(features: Floats, positive: Booleans, weights: Floats) -> Floats:
    """Return logistic coefficients [B, k] by Newton's method with halved steps."""
    sick, well = weights[:, positive].sum(axis=1), weights[:, ~positive].sum(axis=1)
    certain, doubtful = (sick + 1.0) / (sick + 2.0), 1.0 / (well + 2.0)
    # The likelihood is linear in the drawn-in truth, whose part is summed once: [B, k].
    observed = certain[:, None] * (weights[:, positive] @ features[positive]) + doubtful[
        :, None
    ] * (weights[:, ~positive] @ features[~positive])
    squares = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    width = features.shape[1]
    found = np.zeros((len(weights), width))
    if len(weights) > 1:  # Many weightings start where their mean ends.
        found[:] = _likeliest(features, positive, weights.mean(axis=0)[None])
    else:
        found[:, 0] = logit((certain * sick + doubtful * well) / (sick + well))
    best = _likelihood(features, weights, observed, found)
    for _ in range(_STEPS):
        predicted = expit(found @ features.T)
        slope = observed - (weights * predicted) @ features
        bend = (weights * predicted * (1.0 - predicted)) @ squares
        bend = bend.reshape(-1, width, width) + _RIDGE * np.eye(width)
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        for _halving in range(20):
            tried = found + step
            likelihood = _likelihood(features, weights, observed, tried)
            worse = likelihood < best - 1e-12 * np.abs(best)
            if not worse.any():
                break
            step[worse] /= 2.0
        found, best = tried, likelihood
        if np.abs(step).max() <= _CONVERGED * (1.0 + np.abs(found).max()):
            break
    return found


def _likelihood(
    features: Floats, weights: Floats, observed: Floats, coefficients: Floats
) -> Floats:
    """Return each weighting's log-likelihood, [B]."""
    normaliser = np.logaddexp(0.0, coefficients @ features.T)
    likelihood: Floats = np.einsum("bk,bk->b", observed, coefficients) - np.einsum(
        "bn,bn->b", weights, normaliser
    )
    return likelihood
