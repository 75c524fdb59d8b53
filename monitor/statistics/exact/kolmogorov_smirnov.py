"""Kolmogorov-Smirnov tests of every coordinate, with Bonferroni's bound over them.

What drift detectors of embeddings commonly do (Rabanser et al. 2019, *Failing loudly*,
arXiv 1810.11953), here with patients as the unit. Each patient's scans share the weight of
one, and the law is that of as many independent scans as there are patients. This holds the
level for large samples: the empirical process of one random scan of each patient is the
process of the patients' averages plus an independent one, so its supremum is the larger in
law (Anderson 1955, *Proc. Amer. Math. Soc.* 6:170-176).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import kstwo

from monitor.statistics.embeddings import Embeddings
from monitor.statistics.exact.splits import Pooled
from monitor.statistics.patients import Identifiers

# Coordinates sorted at once: a bound on memory, and short enough for the cache.
_COORDINATES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinateTest:
    """The coordinate whose distribution differs most, judged among all coordinates."""

    #: largest distance of the two distribution functions, over values and coordinates
    statistic: float
    #: min(1, d min p)
    p_value: float
    #: where it was found, 0 .. d - 1; of equals the first
    coordinate: int

    def __post_init__(self) -> None:
        # Asymptotic, so that it may underflow to 0.
        if not 0 <= self.p_value <= 1:
            raise ValueError(f"a p-value lies in [0, 1], got {self.p_value}")


def kolmogorov_smirnov_test(
    reference: Embeddings,
    window: Embeddings,
    *,
    reference_patients: Identifiers | None = None,
    window_patients: Identifiers | None = None,
) -> CoordinateTest:
    """Test each coordinate by the largest distance of two distribution functions.

    The asymptotic p-value is scipy's: the exact law of one sample (Simard & L'Ecuyer 2011,
    *J. Stat. Softw.* 39:11) of nN/(n + N) patients, rounded. Ties make it conservative.

    Parameters
    ----------
    reference : floating, shape [N, d]
    window : floating, shape [n, d]
    reference_patients, window_patients : [N], [n] identifiers; without, scans are patients

    Raises
    ------
    EmbeddingsError
        If a group's embeddings or identifiers cannot be used.
    InsufficientDataError
        If a group has fewer than two scans or patients.
    BadInputError
        If a patient has scans in both groups.
    """
    pooled = Pooled.of(reference, window, reference_patients, window_patients)
    patients = pooled.patients
    after = int(np.count_nonzero(pooled.window))
    before = patients.count - after
    # Steps of the difference of the two distribution functions.
    steps = np.where(pooled.window, 1.0 / after, -1.0 / before) / patients.scans
    steps = steps[patients.codes]
    dimension = pooled.embeddings.shape[1]
    distances = np.empty(dimension)
    for start in range(0, dimension, _COORDINATES):
        values = np.ascontiguousarray(pooled.embeddings[:, start : start + _COORDINATES].T)
        order = np.argsort(values, axis=1)
        rising = np.take_along_axis(values, order, axis=1)
        difference = np.abs(np.cumsum(steps[order], axis=1))
        # Among equal values the functions are compared after the last; at the end both are 1.
        difference = np.where(rising[:, :-1] < rising[:, 1:], difference[:, :-1], 0.0)
        distances[start : start + _COORDINATES] = difference.max(axis=1)
    coordinate = int(np.argmax(distances))
    statistic = min(float(distances[coordinate]), 1.0)
    effective = round(after * before / (after + before))
    return CoordinateTest(
        statistic=statistic,
        p_value=min(1.0, dimension * float(kstwo.sf(statistic, effective))),
        coordinate=coordinate,
    )
