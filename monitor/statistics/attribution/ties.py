"""What holds between two views of a scan, whatever mixture of scans is seen.

Another prevalence, case mix or selection changes which scans come, and not how one scan's
pixels go with its embedding: what is predicted of one view from the other on the reference
is right as before (covariate shift, Shimodaira 2000, J. Stat. Plan. Inference 90:227-244).
A change of the image chain moves the two apart, in every scan that it touches; scans of
another kind do so in a part of the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Flags, Floats
from monitor.statistics.patients import Patients

_FOLDS = 5
#: penalties that are tried, in mean variances of a direction seen over all scans
_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# Of the mean variance of the residuals, what is added to each direction's.
_SHRINKAGE = 0.02
# Variance of a median over that of a mean, of normal values.
_OF_MEDIANS = np.pi / 2
_QUARTER = 0.25
#: mean of the upper quarter of a normal law
_END = 1.271
_LEAST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tie:
    """A linear prediction of one view from another, and how far it is off on the reference."""

    #: [p] and [k]: the views' means, and [p, k] slopes
    means: tuple[Floats, Floats]
    slopes: Floats
    #: [k, k] maps residuals to coordinates of unit variance
    whitening: Floats
    #: [k] deviations of the residuals
    deviations: Floats
    #: reference patients
    patients: int

    @classmethod
    def fit(cls, given: Floats, told: Floats, patients: Patients, *, seed: int) -> Tie:
        """Learn to predict one view [N, k] from another [N, p], a patient in one fold.

        How strongly slopes are drawn to 0 is what predicts patients best that were left out
        (ridge regression, Hoerl & Kennard 1970); residuals are theirs.
        """
        means = given.mean(axis=0), told.mean(axis=0)
        x, y = given - means[0], told - means[1]
        gram, crossed = x.T @ x, x.T @ y
        unit = float(np.trace(gram)) / len(gram)
        order = np.random.default_rng(seed).permutation(patients.count)
        fold = (order % _FOLDS)[patients.codes]
        left_out: dict[float, Floats] = {one: np.empty_like(y) for one in _PENALTIES}
        for number in range(_FOLDS):
            own = fold == number
            others = gram - x[own].T @ x[own], crossed - x[own].T @ y[own]
            for penalty, residuals in left_out.items():
                residuals[own] = y[own] - x[own] @ _slopes(*others, penalty * unit)
        deviations = np.maximum(y.std(axis=0), _LEAST)
        best = min(
            _PENALTIES, key=lambda one: float(np.square(left_out[one] / deviations).mean())
        )
        residuals = left_out[best]
        # In deviations, so that no view's unit decides.
        scales = np.maximum(residuals.std(axis=0), _LEAST)
        variances, directions = np.linalg.eigh(np.atleast_2d(np.cov((residuals / scales).T)))
        whitening = directions / np.sqrt(np.maximum(variances, 0.0) + _SHRINKAGE)
        return cls(
            means=means,
            slopes=_slopes(gram, crossed, best * unit),
            whitening=whitening / scales[:, None],
            deviations=scales,
            patients=patients.count,
        )

    def residuals(self, given: Floats, told: Floats) -> Floats:
        """Return what the prediction of one view [n, k] from the other [n, p] leaves, [n, k]."""
        return np.asarray(told - self.means[1] - (given - self.means[0]) @ self.slopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TieShift:
    """How far a prediction is off in a window, beyond what chance does; in deviations."""

    #: mean over patients, and the middle scan, in all coordinates
    mean: float
    middle: float
    #: the middle scan of the group that carries the shift, and of all others
    group: float
    others: float
    #: [k] the mean by coordinate of the view
    by_coordinate: Floats
    #: displacement along the mean of the quarter of scans least displaced, over the quarter
    #: most displaced: near 1 where all are alike
    alike: float


def tie_shift(
    tie: Tie, given: Floats, told: Floats, patients: Patients, inside: Flags | None
) -> TieShift:
    """Look at how far the prediction is off in a window.

    Parameters
    ----------
    given, told : [n, p] and [n, k]
    patients : whose scans they are
    inside : [n] scans of the group that carries the shift; None for no group
    """
    residuals = tie.residuals(given, told)
    white = residuals @ tie.whitening
    by_patient = (patients.sums(white.astype(np.float32)) / patients.scans[:, None]).astype(
        np.float64
    )
    mean = by_patient.mean(axis=0)
    group = np.ones(len(residuals), dtype=bool) if inside is None else inside
    along = np.sort(white @ (mean / max(float(np.linalg.norm(mean)), _LEAST)))
    # Where nothing moved, the ends lie where a normal law's do.
    quarter = max(1, round(_QUARTER * len(along)))
    least = float(along[:quarter].mean()) + _END
    most = float(along[-quarter:].mean()) - _END
    own = patients.sums(residuals.astype(np.float32)) / patients.scans[:, None]
    return TieShift(
        mean=_size(mean, 1.0 / patients.count + 1.0 / tie.patients),
        middle=_middle(tie, residuals),
        group=_middle(tie, residuals[group]),
        others=0.0 if group.all() else _middle(tie, residuals[~group]),
        by_coordinate=np.asarray(own.mean(axis=0, dtype=np.float64) / tie.deviations),
        alike=float(np.clip(least / max(most, 0.25), -1.0, 3.0)),
    )


def _middle(tie: Tie, residuals: Floats) -> float:
    middle = np.median(residuals, axis=0) @ tie.whitening
    return _size(middle, _OF_MEDIANS / len(residuals) + 1.0 / tie.patients)


def _size(moved: Floats, variance: float) -> float:
    """Return the length of a displacement [k] beyond what chance makes of it."""
    squared = float(moved @ moved) - len(moved) * variance
    return float(np.sqrt(max(squared, 0.0)))


def _slopes(gram: Floats, crossed: Floats, penalty: float) -> Floats:
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), crossed))
