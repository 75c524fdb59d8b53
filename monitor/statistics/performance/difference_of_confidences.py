"""Second opinions on an unlabelled window: by how much confidence differs from the reference.

Both estimate predictive values, each from the scans that are called so, and sensitivity and
specificity follow from these and from the share that is called positive.

*Difference of confidences* (Guillory, Shankar, Ebrahimi, Darrell and Schmidt 2021, ICCV,
1134-1144): the reference's predictive value plus the change of the mean calibrated confidence.
What the calibration gets wrong on the reference cancels.

*Average thresholded confidence* (Garg, Balakrishnan, Lipton, Neyshabur and Sedghi 2022, ICLR):
the share of scans more confident than a threshold, which is the one that makes the share the
predictive value on the reference. It needs no calibration, only that confidence ranks.

Neither holds where a score means another thing than on the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Embeddings, Floats
from monitor.statistics.performance.proportions import Booleans
from monitor.statistics.performance.recalibration import (
    CalibratedReference,
    checked_probabilities,
)
from registry.errors import InsufficientDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion:
    """Performance at a threshold, without interval."""

    ppv: float
    npv: float
    sensitivity: float
    specificity: float

    @classmethod
    def from_predictive_values(cls, *, ppv: float, npv: float, called: float) -> Self:
        """Return what predictive values come to where a share of scans is called positive.

        Examples
        --------
        >>> half = SecondOpinion.from_predictive_values(ppv=0.8, npv=0.9, called=0.5)
        >>> round(half.sensitivity, 3), round(half.specificity, 3)
        (0.889, 0.818)
        """
        hits, misses = called * ppv, (1.0 - called) * (1.0 - npv)
        passes, alarms = (1.0 - called) * npv, called * (1.0 - ppv)
        return cls(
            ppv=ppv,
            npv=npv,
            sensitivity=hits / (hits + misses) if hits + misses > 0.0 else float("nan"),
            specificity=passes / (passes + alarms) if passes + alarms > 0.0 else float("nan"),
        )


def by_difference_of_confidences(
    reference: CalibratedReference,
    scores: npt.ArrayLike,
    *,
    vectors: Embeddings | None = None,
    threshold: float,
) -> SecondOpinion:
    """Return the reference's predictive values, moved as the mean confidence moved.

    Parameters
    ----------
    reference : the champion's calibrated reference scores
    scores : of the window, shape [n]
    vectors : the scans' embeddings, shape [n, d], where the reference is calibrated on such
    threshold : positive is `score >= threshold`

    Raises
    ------
    InsufficientDataError
        If reference or window have no scan that is called positive, or none called negative.
    """
    said = checked_probabilities(scores)
    sides = _sides(reference, said, threshold)
    unseen, meaning = reference.held_out, reference.probabilities(said, vectors)

    def moved(on_reference: Booleans, in_window: Booleans, *, positive: bool) -> float:
        right = reference.truth[on_reference] == positive
        before, now = unseen[on_reference].mean(), meaning[in_window].mean()
        change = now - before if positive else before - now
        return float(np.clip(right.mean() + change, 0.0, 1.0))

    return SecondOpinion.from_predictive_values(
        ppv=moved(*sides[True], positive=True),
        npv=moved(*sides[False], positive=False),
        called=float(np.mean(sides[True][1])),
    )


def by_thresholded_confidence(
    reference: CalibratedReference, scores: npt.ArrayLike, *, threshold: float
) -> SecondOpinion:
    """Return the shares of scans more confident than the reference's thresholds.

    Parameters, without vectors, and errors are those of `by_difference_of_confidences`.
    """
    said = checked_probabilities(scores)
    sides = _sides(reference, said, threshold)

    def confident(on_reference: Booleans, in_window: Booleans, *, positive: bool) -> float:
        sign = 1.0 if positive else -1.0
        before, now = sign * reference.scores[on_reference], sign * said[in_window]
        right = int(np.count_nonzero(reference.truth[on_reference] == positive))
        if right == 0:
            return 0.0
        return float(np.mean(now >= np.sort(before)[-right]))

    return SecondOpinion.from_predictive_values(
        ppv=confident(*sides[True], positive=True),
        npv=confident(*sides[False], positive=False),
        called=float(np.mean(sides[True][1])),
    )


def _sides(
    reference: CalibratedReference, scores: Floats, threshold: float
) -> dict[bool, tuple[Booleans, Booleans]]:
    """Return which scans of reference and window are called positive, and which are not."""
    before, now = reference.scores >= threshold, scores >= threshold
    for called, what in ((before, "reference"), (now, "window")):
        for some, name in ((called.any(), "positive"), (not called.all(), "negative")):
            if not some:
                raise InsufficientDataError(
                    what=f"{what} scans that are called {name}", needed=1, got=0
                )
    return {True: (before, now), False: (~before, ~now)}
