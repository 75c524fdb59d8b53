"""A classifier two-sample test: how well held-out patients of two groups are told apart.

Lopez-Paz & Oquab (2017), *Revisiting classifier two-sample tests*, with a linear classifier
in closed form and the area under the ROC curve (Kim et al. 2021, *Ann. Statist.* 49:411-434
for linear discriminants). Patients are split into folds, the groups evenly; each fold is
scored by the classifier that was fitted on the others, and the fold's areas are averaged.

Scores of different folds depend on one another through the shared fits, so permuting the
labels of held-out scores alone is not valid: under the hypothesis, too, a fold that leans
to one side by chance makes the others' classifiers lean to the opposite side. Here labels
are permuted *before* fitting and every classifier is fitted anew for each permutation. The
average area is then a function of patients, folds and labels alone. If all patients are
drawn alike, they are exchangeable given folds and labels, hence any reassignment of the
labels within folds has the same law, and (1 + b)/(1 + B) is a valid p-value at every size.

Refitting is cheap because nothing but the difference d of the groups' means depends on the
labels. Fisher's direction is (W + r)^-1 d, W the covariance inside the groups, r a ridge.
The covariance of all training scans together is T = W + c dd' with c > 0, and
(T + r)^-1 d is the same direction (Sherman & Morrison 1950): one factorisation of T for
each fold serves all permutations.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata

from monitor.statistics.embeddings import Embeddings, Flags, Floats, Integers, Singles
from monitor.statistics.exact.splits import (
    ExactTest,
    Pooled,
    permutation_p_value,
    permuted_splits,
)
from monitor.statistics.patients import Identifiers
from monitor.statistics.threads import one_thread
from monitor.statistics.whitening import Moments
from registry.errors import BadInputError

_FOLDS = 5
# Areas are ratios of half ranks: any true difference is larger.
_TIE = 1e-9


def classifier_test(
    reference: Embeddings,
    window: Embeddings,
    *,
    reference_patients: Identifiers | None = None,
    window_patients: Identifiers | None = None,
    ridge: float = 0.1,
    permutations: int = 199,
    seed: int = 0,
) -> ExactTest:
    """Test by the cross-fitted area under the ROC curve of a linear classifier.

    The statistic is the mean over folds of the area on held-out scans: near .5 for equal
    distributions (a little below, as what is held out is missing in the fit), 1 if the
    groups can be told apart.

    Parameters
    ----------
    reference : floating, shape [N, d]
    window : floating, shape [n, d]
    reference_patients, window_patients : [N], [n] identifiers; without, scans are patients
    ridge : added to the covariance, in mean variances of a coordinate
    permutations : random splits
    seed : of folds and splits

    Raises
    ------
    EmbeddingsError
        If a group's embeddings or identifiers cannot be used.
    InsufficientDataError
        If a group has fewer than two scans or patients.
    BadInputError
        If a patient has scans in both groups, or an option is out of range.
    """
    if not 0 < ridge < np.inf:
        raise BadInputError(f"a ridge is positive and finite, got {ridge}")
    pooled = Pooled.of(reference, window, reference_patients, window_patients)
    division, splitting = np.random.default_rng(seed).spawn(2)
    fold = folds_by_patient(pooled.window, rng=division)
    splits = permuted_splits(
        pooled.window, permutations=permutations, rng=splitting, stratum=fold
    )
    codes = pooled.patients.codes
    areas = held_out_areas(pooled.embeddings, splits[codes], fold[codes], ridge=ridge)
    return ExactTest(
        statistic=float(areas[0]),
        p_value=permutation_p_value(areas, tolerance=_TIE),
        permutations=permutations,
    )


def folds_by_patient(window: Flags, *, rng: np.random.Generator) -> Integers:
    """Return each patient's fold, [P], with both groups in every fold.

    Parameters
    ----------
    window : [P] patients of the window; two at least, and two others
    rng : divides them
    """
    groups = (np.flatnonzero(window), np.flatnonzero(~window))
    folds = min(_FOLDS, *(len(group) for group in groups))
    fold = np.empty(len(window), dtype=np.int64)
    for group in groups:
        fold[group] = rng.permutation(len(group)) % folds
    return fold


def held_out_areas(
    embeddings: Singles, inside: Flags, fold: Integers, *, ridge: float
) -> Floats:
    """Return the mean area on held-out folds of every split, [1 + B].

    Parameters
    ----------
    embeddings : [M, d]
    inside : [M, 1 + B] scans in the window
    fold : [M] 0 .. K - 1
    ridge : in mean variances of a coordinate
    """
    with one_thread():
        moments = Moments.of(embeddings, fold)
        folds, dimension = moments.sums.shape
        scans = ((embeddings - moments.origin) / moments.unit).astype(np.float32)
        rows = [np.flatnonzero(fold == k) for k in range(folds)]
        indicators = [inside[one].astype(np.float32) for one in rows]
        counts = np.array([one.sum(axis=0, dtype=np.float64) for one in indicators])
        sums = [
            (scans[one].T @ indicator).astype(np.float64)
            for one, indicator in zip(rows, indicators, strict=True)
        ]
        total = np.sum(sums, axis=0)
        areas = np.zeros(inside.shape[1])
        for k in range(folds):
            training = np.arange(folds) != k
            window = counts[training].sum(axis=0)
            others = float(moments.counts[training].sum()) - window
            means = (total - sums[k]) / window
            everything = moments.sums[training].sum(axis=0)[:, None]
            differences = means - (everything - (total - sums[k])) / others
            covariance = moments.covariance(training)
            # In units of length the variances of all scans add up to one.
            covariance.flat[:: dimension + 1] += ridge / dimension
            directions = cho_solve(cho_factor(covariance), differences)
            areas += _areas(scans[rows[k]] @ directions.astype(np.float32), inside[rows[k]])
    mean: Floats = areas / folds
    return mean


def _areas(scores: Singles, inside: Flags) -> Floats:
    """Return each column's area under the ROC curve, by midranks, [B]."""
    ranks = rankdata(scores, axis=0)
    window = np.count_nonzero(inside, axis=0)
    above = np.einsum("ij,ij->j", ranks, inside) - window * (window + 1) / 2
    areas: Floats = above / (window * (len(inside) - window))
    return areas
