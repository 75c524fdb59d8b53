"""What a champion's scores mean: probabilities learnt from labelled reference scans.

Patients are drawn anew and the calibration (`beta_calibration`) is fitted to each redraw, so
that whatever is estimated from it can carry its error.

A score can mean one thing for one kind of scans and another for another kind. Where the scans'
embeddings are given, their first principal components go into the calibration, as far as that
makes labels of unseen patients likelier; then it holds for windows that have more of one kind
than the reference (Hébert-Johnson, Kim, Reingold and Rothblum 2018, ICML, PMLR 80:1939-1948,
call it multicalibration).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import svds
from scipy.special import expit, xlog1py, xlogy

from monitor.statistics.bootstrap import resampled_weights
from monitor.statistics.embeddings import (
    Embeddings,
    Floats,
    Integers,
    checked_embeddings,
    require_variety,
)
from monitor.statistics.patients import Identifiers, Patients, some_patients
from monitor.statistics.performance.beta_calibration import (
    OF_THE_SCORE,
    beta_coefficients,
    features,
)
from monitor.statistics.performance.calibration import CLIP
from monitor.statistics.performance.proportions import (
    Booleans,
    checked_patients,
    checked_scores,
    checked_truth,
)
from registry.errors import BadInputError, InsufficientDataError

#: Fewest patients with scans of a class. Of fewer, intervals hold less than they say.
LEAST_PATIENTS = 20
#: Patients drawn anew, so many times.
REDRAWS = 400
#: More scans say no more of a calibration than a window's sampling hides.
_MOST_SCANS = 3000
#: Redraws that are fitted together, so that they need little memory.
_AT_ONCE = 50
_FOLDS = 5
#: Most principal components, and patients that there must be for each.
_AXES, _PATIENTS_AN_AXIS = 32, 10
#: Ridge penalties that are tried.
_PENALTIES = (4.0, 16.0, 64.0)
#: Of the largest singular value: below it a component is rounding.
_NO_SPREAD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axes:
    """The directions in which a reference's embeddings differ most."""

    #: [d]
    centre: Floats
    #: of variance 1 in the reference, [d, k]
    directions: Floats
    #: on their coefficients
    penalty: float

    def places(self, vectors: Embeddings) -> Floats:
        """Return scans' coordinates, [n, k].

        Raises
        ------
        BadInputError
            If they have another number of dimensions than the reference's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.centre):
            raise BadInputError(
                f"embeddings have shape {list(vectors.shape)}, and the reference's have "
                f"{len(self.centre)} dimensions: embed both with the same version"
            )
        places: Floats = (vectors.astype(np.float64) - self.centre) @ self.directions
        return places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibratedReference:
    """A champion's scores on labelled reference scans, and what they mean."""

    #: probability of the positive class as the champion says it, [n]
    scores: Floats
    #: [n]
    truth: Booleans
    patients: Patients
    #: None where what a score means does not hang on where a scan lies, as far as is known
    axes: Axes | None
    #: intercept, of log s, of -log(1 - s), and of the axes: [3 + k]
    coefficients: Floats
    #: how often each scan counts when patients are drawn anew: [REDRAWS, n]
    draws: npt.NDArray[np.uint16]
    #: the coefficients for each redraw: [REDRAWS, 3 + k]
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
        vectors: Embeddings | None = None,
        seed: int,
    ) -> Self:
        """Calibrate scores. Of more than 3,000 scans, those of random patients are taken.

        Parameters
        ----------
        scores : probabilities as the champion says them, in [0, 1], shape [n]
        truth : 0 or 1, shape [n]
        patients : identifiers, shape [n], or None where each scan is its own patient
        vectors : the scans' embeddings, shape [n, d], or None to look at scores alone
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
        _refuse_few(positive, groups)
        if not beta_coefficients(said, positive, np.ones((1, len(said))))[0, 1:].any():
            raise InsufficientDataError(
                what="labelled reference scans whose scores rise with the finding",
                needed=1,
                got=0,
            )
        axes, places, held_out = None, None, _held_out(said, positive, groups, seed=seed)
        if vectors is not None:
            if len(vectors) != len(np.atleast_1d(truth)):
                raise BadInputError(
                    f"{len(vectors)} embeddings came with {len(np.atleast_1d(truth))} scores: "
                    "pass one for each"
                )
            axes, places, held_out = _located(
                said, positive, groups, vectors[chosen], held_out=held_out, seed=seed
            )
        penalty = axes.penalty if axes is not None else 0.0

        def fitted(weights: Floats) -> Floats:
            return beta_coefficients(said, positive, weights, places=places, penalty=penalty)

        draws = _drawn(groups, seed=2 * seed).astype(np.uint16)
        return cls(
            scores=said,
            truth=positive,
            patients=groups,
            axes=axes,
            coefficients=fitted(np.ones((1, len(said))))[0],
            draws=draws,
            redrawn=np.concatenate(
                [
                    fitted(draws[start : start + _AT_ONCE].astype(np.float64))
                    for start in range(0, REDRAWS, _AT_ONCE)
                ]
            ),
            held_out=held_out,
        )

    def probabilities(self, scores: Floats, vectors: Embeddings | None = None) -> Floats:
        """Return what scores mean: P(finding) of each, [n]; without vectors, of average scans."""
        meaning: Floats = self._meaning(self.coefficients[None], scores, vectors)[0]
        return meaning

    def redrawn_probabilities(
        self, scores: Floats, vectors: Embeddings | None = None
    ) -> Floats:
        """Return what scores mean by each redraw, [REDRAWS, n]."""
        return self._meaning(self.redrawn, scores, vectors)

    def _meaning(
        self, coefficients: Floats, scores: Floats, vectors: Embeddings | None
    ) -> Floats:
        if self.axes is None or vectors is None:
            line = coefficients[:, :OF_THE_SCORE] @ features(scores).T
        else:
            line = coefficients @ features(scores, self.axes.places(vectors)).T
        # Rounded to 1, a probability would be beyond doubt at any prevalence.
        meaning: Floats = np.clip(expit(line), CLIP, 1.0 - CLIP)
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


def _refuse_few(positive: Booleans, patients: Patients) -> None:
    for of_class, what in ((positive, "with"), (~positive, "without")):
        having = len(np.unique(patients.codes[of_class]))
        if having < LEAST_PATIENTS:
            raise InsufficientDataError(
                what=f"labelled reference patients with scans {what} the finding",
                needed=LEAST_PATIENTS,
                got=having,
            )


def _held_out(
    scores: Floats,
    positive: Booleans,
    patients: Patients,
    *,
    places: Floats | None = None,
    penalty: float = 0.0,
    seed: int,
) -> Floats:
    """Return what each score means by a calibration that did not see its patient, [n]."""
    folds = _folds(patients, seed=seed)
    weights = np.array([folds != fold for fold in range(_FOLDS)], dtype=np.float64)
    without = beta_coefficients(scores, positive, weights, places=places, penalty=penalty)
    unseen: Floats = expit(np.einsum("nk,nk->n", features(scores, places), without[folds]))
    return unseen


def _folds(patients: Patients, *, seed: int) -> Integers:
    """Return each scan's fold [n]: whole patients, in random order."""
    order = np.random.default_rng((seed, 2)).permutation(patients.count)
    folds: Integers = (order % _FOLDS)[patients.codes]
    return folds


def _located(
    scores: Floats,
    positive: Booleans,
    patients: Patients,
    vectors: Embeddings,
    *,
    held_out: Floats,
    seed: int,
) -> tuple[Axes | None, Floats | None, Floats]:
    """Return the axes that make labels of unseen patients likelier, with places and meanings.

    None, None and what scores mean alone, where no penalty makes them likelier.
    """
    singles = checked_embeddings(vectors, what="reference")
    require_variety(singles, what="reference")
    checked = singles.astype(np.float64)
    centre = checked.mean(axis=0)
    number = min(_AXES, patients.count // _PATIENTS_AN_AXIS, min(checked.shape) - 1)
    if number < 1:
        return None, None, held_out
    # A start of its own would make the last digits hang on chance.
    _, sizes, rows = svds(checked - centre, k=number, v0=np.ones(min(checked.shape)))
    kept = sizes > _NO_SPREAD * sizes.max()
    directions = rows[kept].T * (np.sqrt(len(checked)) / sizes[kept])
    places: Floats = (checked - centre) @ directions
    best, penalty = _log_likelihood(held_out, positive), None
    for tried in _PENALTIES:
        unseen = _held_out(scores, positive, patients, places=places, penalty=tried, seed=seed)
        likelihood = _log_likelihood(unseen, positive)
        if likelihood > best:
            best, penalty, held_out = likelihood, tried, unseen
    if penalty is None:
        return None, None, held_out
    return Axes(centre=centre, directions=directions, penalty=penalty), places, held_out


def _log_likelihood(probabilities: Floats, positive: Booleans) -> float:
    return float(np.sum(xlogy(positive, probabilities) + xlog1py(~positive, -probabilities)))
