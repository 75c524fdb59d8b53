"""How frequent a finding is among unlabelled scans, if only its frequency changed.

Under label shift P(score | truth) stays and P(truth) changes, so that each calibrated
probability p is worth p a / (p a + (1 - p) b) now, with a and b the classes' new shares over
their old ones (Saerens, Latinne and Decaestecker 2002, Neural Computation 14:21-41, eq. 2.4).
The likeliest new share is what their EM algorithm climbs to; the likelihood is concave, and
its slope's root is found at once. That calibrated probabilities make it consistent, and why
a calibration needs an intercept for that, is shown by Alexandari, Kundaje and Shrikumar
(2020, ICML, PMLR 119:222-232) and Garg, Wu, Balakrishnan and Lipton (2020, NeurIPS 33).

The assumption can be seen to fail: the window's scores must then look like a mixture of the
two classes' reference scores. They are compared at 64 scores by an Anderson-Darling distance;
what it is by chance is read off patients drawn anew, in the reference and the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Identifiers
from monitor.statistics.performance.proportions import Interval, checked_patients, quantile_of
from monitor.statistics.performance.recalibration import (
    REDRAWS,
    CalibratedReference,
    checked_probabilities,
    redrawn_window,
)
from registry.errors import BadInputError, InsufficientDataError

#: Fewest patients of a window. Of fewer, intervals hold less than they say.
LEAST_WINDOW_PATIENTS = 20
#: At or below this p-value of the fit, the frequency alone does not explain the scores.
LEAST_FIT = 0.05
_POINTS = 64
#: Keeps a gap far out in a tail, where one scan makes it, from outweighing all others.
_LEAST_SPREAD = 0.01
#: Prevalences at which a likelihood is looked at: a thousandth apart.
_SHARES = 1001
_STEPS = 100
_CONVERGED = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelShift:
    """The likeliest prevalence in a window, and whether it explains the window's scores."""

    prevalence: float
    #: by patients drawn anew, in the reference and the window
    interval: Interval
    #: in the reference
    before: float
    #: of the window's scores being a mixture of the reference's classes
    fit_p_value: float
    scans: int
    patients: int

    @property
    def explains(self) -> bool:
        """Whether the prevalence may be said: else another change stands behind the scores."""
        return self.fit_p_value > LEAST_FIT


def likeliest_prevalence(
    probabilities: Floats, *, before: npt.ArrayLike, weights: Floats
) -> Floats:
    """Return the maximum-likelihood prevalence under each weighting of scans, [B].

    Parameters
    ----------
    probabilities : of the finding at the old prevalence, inside (0, 1), shape [B, n] or [n]
    before : the old prevalence, shape [B] or []
    weights : how often each scan counts, shape [B, n]
    """
    old = np.broadcast_to(np.asarray(before, dtype=np.float64), len(weights))[:, None]
    with_finding, without = probabilities / old, (1.0 - probabilities) / (1.0 - old)
    gain = with_finding - without

    def slopes(share: Floats) -> tuple[Floats, Floats]:
        ratio = gain / (without + share[:, None] * gain)
        return np.einsum("bn,bn->b", weights, ratio), -np.einsum(
            "bn,bn,bn->b", weights, ratio, ratio
        )

    low, high = np.zeros(len(weights)), np.ones(len(weights))
    # Where the likelihood falls from 0 on, or rises up to 1, the bound is the likeliest.
    at_low, at_high = slopes(low)[0] <= 0.0, slopes(high)[0] >= 0.0
    share = old[:, 0].copy()
    for _ in range(_STEPS):
        slope, bend = slopes(share)
        low, high = np.where(slope > 0.0, share, low), np.where(slope > 0.0, high, share)
        newton = share - np.divide(slope, bend, out=np.zeros_like(slope), where=bend < 0.0)
        inside = (newton > low) & (newton < high)
        following = np.where(inside, newton, (low + high) / 2.0)
        moved = np.abs(following - share).max()
        share = following
        if moved <= _CONVERGED:
            break
    return np.where(at_low, 0.0, np.where(at_high, 1.0, share))


def _likely_shares(
    probabilities: Floats, *, before: float, weights: Floats, level: float
) -> tuple[float, float]:
    """Return the least and the largest prevalence that the likelihood does not reject."""
    shares = np.linspace(0.0, 1.0, _SHARES)
    with_finding, without = probabilities / before, (1.0 - probabilities) / (1.0 - before)
    likelihood = np.array(
        [weights @ np.log(without + share * (with_finding - without)) for share in shares]
    )
    kept = shares[likelihood >= likelihood.max() - quantile_of(level) ** 2 / 2.0]
    return float(kept[0]), float(kept[-1])


def at_prevalence(
    probabilities: Floats, *, before: npt.ArrayLike, after: npt.ArrayLike
) -> Floats:
    """Return probabilities as they are once the prevalence has changed (Saerens, eq. 2.4).

    Examples
    --------
    >>> at_prevalence(np.array([0.5, 0.9]), before=0.5, after=0.1).round(3)
    array([0.1, 0.5])
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    with_finding = probabilities * (new / old)
    worth: Floats = with_finding / (
        with_finding + (1.0 - probabilities) * ((1.0 - new) / (1.0 - old))
    )
    return worth


def reference_prevalences(reference: CalibratedReference) -> tuple[float, Floats]:
    """Return the mean calibrated probability in the reference, and in each redraw [REDRAWS].

    It, and not the share of labels, makes the likeliest prevalence of the reference itself
    exactly its old one (Alexandari et al. 2020, section 3).
    """
    weights = reference.redrawn_weights()
    redrawn = np.einsum("bn,bn->b", weights, reference.redrawn_probabilities(reference.scores))
    return (
        float(reference.probabilities(reference.scores).mean()),
        redrawn / weights.sum(axis=1),
    )


def estimate_label_shift(
    reference: CalibratedReference,
    scores: npt.ArrayLike,
    patients: Identifiers | None = None,
    *,
    level: float,
    seed: int,
) -> LabelShift:
    """Return the prevalence that explains a window's scores best, and how well it does.

    Parameters
    ----------
    reference : the champion's calibrated reference scores, without vectors
    scores : of the window, probabilities as the champion says them, shape [n]
    patients : identifiers, shape [n], or None where each scan is its own patient
    level : confidence of the interval
    seed : of the window's redraws

    Raises
    ------
    BadInputError
        If the reference is calibrated on embeddings, too.
    InsufficientDataError
        If the window has scans of fewer than 20 patients.
    """
    if reference.axes is not None:
        raise BadInputError(
            "a prevalence is found from scores alone: calibrate the reference without vectors"
        )
    said = checked_probabilities(scores)
    # Nobody at all has no identifiers to be checked.
    groups = checked_patients(patients, scans=len(said)) if len(said) else None
    if groups is None or groups.count < LEAST_WINDOW_PATIENTS:
        got = 0 if groups is None else groups.count
        raise InsufficientDataError(
            what="patients in the window", needed=LEAST_WINDOW_PATIENTS, got=got
        )
    before, redrawn_before = reference_prevalences(reference)
    weights = redrawn_window(groups, seed=seed)
    found = likeliest_prevalence(
        reference.probabilities(said), before=before, weights=np.ones((1, len(said)))
    )
    redrawn = likeliest_prevalence(
        reference.redrawn_probabilities(said), before=redrawn_before, weights=weights
    )
    prevalence = float(found[0])
    tail = (1.0 - level) / 2.0
    low, high = (float(bound) for bound in np.quantile(redrawn, [tail, 1.0 - tail]))
    if np.mean((redrawn == 0.0) | (redrawn == 1.0)) > tail:
        # At a bound redraws scatter too little (Andrews 2000, Econometrica 68:399-405).
        by_patient = 1.0 / groups.scans[groups.codes]
        likely = _likely_shares(
            reference.probabilities(said), before=before, weights=by_patient, level=level
        )
        low, high = min(low, likely[0]), max(high, likely[1])
    return LabelShift(
        prevalence=prevalence,
        interval=Interval(low=min(prevalence, low), high=max(prevalence, high), level=level),
        before=before,
        fit_p_value=_fit_p_value(reference, said, weights, found, redrawn),
        scans=len(said),
        patients=groups.count,
    )


def _fit_p_value(
    reference: CalibratedReference,
    scores: Floats,
    weights: Floats,
    found: Floats,
    redrawn: Floats,
) -> float:
    """Return the p-value of the window's scores being a mixture of the reference's classes."""
    points = np.unique(
        np.concatenate(
            [
                np.quantile(
                    reference.scores[of_class], np.arange(1, _POINTS // 2) * 2 / _POINTS
                )
                for of_class in (reference.truth, ~reference.truth)
            ]
        )
    )
    below = (reference.scores[:, None] <= points).astype(np.float64)
    window_below = (scores[:, None] <= points).astype(np.float64)

    def parts(
        reference_weights: Floats, window_weights: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return shares at or below each point: with and without the finding, and now."""
        shares = []
        for rows, chosen in (
            (below, reference_weights * reference.truth),
            (below, reference_weights * ~reference.truth),
            (window_below, window_weights),
        ):
            shares.append(chosen @ rows / chosen.sum(axis=1, keepdims=True))
        return shares[0], shares[1], shares[2]

    def gaps(
        prevalence: Floats, shares: tuple[Floats, Floats, Floats]
    ) -> tuple[Floats, Floats]:
        with_finding, without, now = shares
        share = prevalence[:, None]
        mixture = share * with_finding + (1.0 - share) * without
        return now - mixture, mixture

    ones = np.ones((1, len(reference.scores))), np.ones((1, len(scores)))
    gap, mixture = gaps(found, parts(*ones))
    drawn, _ = gaps(redrawn, parts(reference.redrawn_weights(), weights))
    # Anderson and Darling's weight, and the mixture's own mass between the points.
    spread = np.maximum(mixture[0] * (1.0 - mixture[0]), _LEAST_SPREAD)
    mass = np.diff(np.concatenate([[0.0], mixture[0]])) / spread
    distance = float(gap[0] ** 2 @ mass)
    by_chance = (drawn - gap) ** 2 @ mass
    return float((1 + np.count_nonzero(by_chance >= distance)) / (1 + REDRAWS))
