"""Beta calibration: what a score means, fitted under many weightings of the scans at once.

The family is that of Kull, Silva Filho and Flach (2017, AISTATS, PMLR 54:623-631),

    logit p = c + a log s - b log(1 - s),    a, b >= 0,

which holds Platt's scaling (a = b) and the identity (a = b = 1, c = 0). Truth is drawn in by
Platt's (1999) (m + 1) / (m + 2) and 1 / (k + 2), so that scores which separate the classes
have a likeliest calibration, too. Where a scan lies among others can be added, its coordinates
under a ridge penalty: a score then means what it means for scans of that kind.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from monitor.statistics.embeddings import Floats, Integers
from monitor.statistics.performance.calibration import CLIP
from monitor.statistics.performance.proportions import Booleans

#: Columns of 1, log s and -log(1 - s); coordinates follow.
OF_THE_SCORE = 3

#: Newton's method on a concave likelihood; more steps than it ever takes.
_STEPS = 60
_CONVERGED = 1e-9
#: Keeps the system solvable where all scores are the same.
_RIDGE = 1e-9


def features(scores: Floats, places: Floats | None = None) -> Floats:
    """Return 1, log s, -log(1 - s) and the coordinates of each scan, [n, 3 + k]."""
    safe = np.clip(scores, CLIP, 1.0 - CLIP)
    of_score = np.stack([np.ones_like(safe), np.log(safe), -np.log1p(-safe)], axis=1)
    return of_score if places is None else np.concatenate([of_score, places], axis=1)


def beta_coefficients(
    scores: Floats,
    positive: Booleans,
    weights: Floats,
    *,
    places: Floats | None = None,
    penalty: float = 0.0,
) -> Floats:
    """Return the likeliest beta calibration under each weighting of scans, [B, 3 + k].

    A coefficient of the score that would be negative is held at 0 and the rest fitted again.
    With one negative that is the constrained optimum: the likelihood is concave, and the way
    from its peak to any permitted point leads through the face on which that coefficient is 0.

    Parameters
    ----------
    scores : in [0, 1], shape [n]
    positive : the truth, shape [n]
    weights : how often each scan counts, shape [B, n]
    places : coordinates of each scan, shape [n, k], or None
    penalty : half of it times the squared coefficients of the coordinates is taken off the
        log-likelihood
    """
    rows = features(scores, places)
    width = rows.shape[1]
    penalties = np.where(np.arange(width) < OF_THE_SCORE, 0.0, penalty)

    def fitted(kept: Integers, chosen: Integers) -> Floats:
        found = np.zeros((len(chosen), width))
        found[:, kept] = _likeliest(rows[:, kept], positive, weights[chosen], penalties[kept])
        return found

    everything = np.arange(width)
    found = fitted(everything, np.arange(len(weights)))
    for held in (1, 2):
        wrong = np.flatnonzero(found[:, held] < 0.0)
        if len(wrong):
            found[wrong] = fitted(np.delete(everything, held), wrong)
    # What was left turned negative in its turn: these scores say nothing.
    nothing = np.flatnonzero((found[:, 1:OF_THE_SCORE] < 0.0).any(axis=1))
    if len(nothing):
        found[nothing] = fitted(np.delete(everything, (1, 2)), nothing)
    return found


def _likeliest(rows: Floats, positive: Booleans, weights: Floats, penalties: Floats) -> Floats:
    """Return logistic coefficients [B, k] by Newton's method with halved steps."""
    sick, well = weights[:, positive].sum(axis=1), weights[:, ~positive].sum(axis=1)
    certain, doubtful = (sick + 1.0) / (sick + 2.0), 1.0 / (well + 2.0)
    # The likelihood is linear in the drawn-in truth, whose part is summed once: [B, k].
    observed = certain[:, None] * (weights[:, positive] @ rows[positive]) + doubtful[
        :, None
    ] * (weights[:, ~positive] @ rows[~positive])
    width = rows.shape[1]
    # Products of columns, each pair once.
    first, second = np.triu_indices(width)
    products = rows[:, first] * rows[:, second]

    def likelihood(coefficients: Floats) -> Floats:
        normaliser = np.logaddexp(0.0, coefficients @ rows.T)
        value: Floats = (
            np.einsum("bk,bk->b", observed, coefficients)
            - np.einsum("bn,bn->b", weights, normaliser)
            - 0.5 * coefficients**2 @ penalties
        )
        return value

    found = np.zeros((len(weights), width))
    if len(weights) > 1:  # Many weightings start where their mean ends.
        found[:] = _likeliest(rows, positive, weights.mean(axis=0)[None], penalties)
    else:
        found[:, 0] = logit((certain * sick + doubtful * well) / (sick + well))
    best = likelihood(found)
    for _ in range(_STEPS):
        predicted = expit(found @ rows.T)
        slope = observed - (weights * predicted) @ rows - penalties * found
        bend = np.empty((len(weights), width, width))
        bend[:, first, second] = (weights * predicted * (1.0 - predicted)) @ products
        bend[:, second, first] = bend[:, first, second]
        bend += np.diag(penalties + _RIDGE)
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        for _halving in range(20):
            tried = found + step
            value = likelihood(tried)
            worse = value < best - 1e-12 * np.abs(best)
            if not worse.any():
                break
            step[worse] /= 2.0
        found, best = tried, value
        if np.abs(step).max() <= _CONVERGED * (1.0 + np.abs(found).max()):
            break
    return found
