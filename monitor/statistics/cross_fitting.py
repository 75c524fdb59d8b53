"""Fitting a portfolio: features on everything, the null where they have not looked.

Patients are split into folds. Moments are kept by fold, so that the features without a
fold come by subtraction. Held-out scans then give the spectrum, the dependence between
scans of one patient, and the null; the reference's own mean is taken over all scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.design import Design
from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.member import Member
from monitor.statistics.null import FoldGrams, NullTable
from monitor.statistics.patients import Patients, chunks_of_patients, some_patients
from monitor.statistics.persistence import GROUPS
from monitor.statistics.portfolio import Portfolio, all_features
from monitor.statistics.two_sample import (
    Dependence,
    Layout,
    PatientSums,
    intraclass_correlations,
    traces,
)
from monitor.statistics.whitening import Eigenbasis, Moments, smooth_spectrum

_FOLDS = 5
_DRAWS = 5000
# Patients of a fold that the null is drawn from: its Gram matrices grow as their square.
_FOLD_PATIENTS = 600
# Scans from which a distribution function or a variance is read.
_SCANS = 8000
_CHUNK = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldOut:
    """Features of some of a fold's scans, fitted without the fold."""

    features: Singles
    patients: Patients


def fit_portfolio(embeddings: Singles, patients: Patients, *, seed: int) -> Portfolio:
    """Fit a portfolio on a reference [N, d]."""
    folds, choices, sample, null, forms = np.random.default_rng(seed).spawn(5)
    fold_of_patient = folds.permutation(patients.count) % _FOLDS
    fold = fold_of_patient[patients.codes].astype(np.int64)
    moments = Moments.of(embeddings, fold, chunk=_CHUNK)
    bases = [moments.basis(without=k) for k in range(_FOLDS)]
    rows = [
        np.flatnonzero(fold == k)[
            some_patients(
                patients.subset(np.flatnonzero(fold == k)), scans=_SCANS // _FOLDS, rng=sample
            )
        ]
        for k in range(_FOLDS)
    ]
    held_out = np.mean(
        [
            np.square(basis.coordinates(embeddings[own]).principal, dtype=np.float64).mean(
                axis=0
            )
            for basis, own in zip(bases, rows, strict=True)
        ],
        axis=0,
    )
    rank = min(embeddings.shape[1], patients.count * (_FOLDS - 1) // _FOLDS - 1)
    spectrum = smooth_spectrum(held_out, rank=rank)

    basis = moments.basis()
    some = some_patients(patients, scans=_SCANS, rng=sample)
    design = Design.of(
        basis,
        spectrum,
        basis.coordinates(embeddings[some]).centred,
        patients=patients.count,
        rng=choices,
    )
    parts = [
        _held_out(embeddings, patients, fold, k, bases[k], design, rng=sample)
        for k in range(_FOLDS)
    ]
    scores = _scores(embeddings, patients, some, basis, design, fitted=len(embeddings))
    members = design.members(basis.variances, scores)
    layout = Layout.of(members)
    weights = np.array([member.weight for member in members])
    dependence = Dependence(
        correlations=np.mean(
            [intraclass_correlations(part.features, part.patients, layout) for part in parts],
            axis=0,
        )
    )
    sums = [PatientSums.of(part.features, part.patients, dependence) for part in parts]
    grams = [FoldGrams.of(one, layout) for one in sums]
    centre, inverse_sizes = _reference_mean(embeddings, patients, basis, members, dependence)
    each = -(-_DRAWS // _FOLDS)
    return Portfolio(
        basis=basis,
        design=design,
        scores=scores,
        dependence=dependence,
        centre=centre.astype(np.float32),
        traces=np.mean([traces(one, layout) for one in sums], axis=0),
        inverse_sizes=inverse_sizes,
        patients=patients.count,
        null=NullTable.draw(grams, weights=weights, draws=_DRAWS, rng=null),
        forms=np.concatenate(
            [gram.forms(groups=GROUPS, draws=each, rng=forms) for gram in grams]
        ),
    )


def _held_out(
    embeddings: Singles,
    patients: Patients,
    fold: Integers,
    k: int,
    basis: Eigenbasis,
    design: Design,
    *,
    rng: np.random.Generator,
) -> _HeldOut:
    """See fold k through features fitted without it."""
    others = np.flatnonzero(fold != k)
    some = others[some_patients(patients.subset(others), scans=_SCANS, rng=rng)]
    scores = _scores(embeddings, patients, some, basis, design, fitted=len(others))
    members = design.members(basis.variances, scores)
    own = np.flatnonzero(fold == k)
    grouped = patients.subset(own)
    chosen = np.zeros(grouped.count, dtype=bool)
    chosen[rng.permutation(grouped.count)[:_FOLD_PATIENTS]] = True
    kept = own[grouped.members(chosen)]
    features = [
        all_features(members, basis.coordinates(embeddings[kept[i : i + _CHUNK]]))
        for i in range(0, len(kept), _CHUNK)
    ]
    return _HeldOut(features=np.concatenate(features), patients=patients.subset(kept))


def _scores(
    embeddings: Singles,
    patients: Patients,
    rows: Integers,
    basis: Eigenbasis,
    design: Design,
    *,
    fitted: int,
) -> Floats:
    """Return left-out scores of some patients' scans, each ridge's rising, [3, n]."""
    principal = basis.coordinates(embeddings[rows]).principal
    scores = design.left_out_scores(
        principal, basis.variances, patients=patients.subset(rows), scans=fitted
    )
    return np.sort(scores, axis=1)


def _reference_mean(
    embeddings: Singles,
    patients: Patients,
    basis: Eigenbasis,
    members: Sequence[Member],
    dependence: Dependence,
) -> tuple[Floats, Floats]:
    """Return the reference's mean features [D], and 1 / effective number of scans [G]."""
    total: Floats | float = 0.0
    spread: Floats | float = 0.0
    mass = 0.0
    for rows in chunks_of_patients(patients, scans=_CHUNK):
        grouped = patients.subset(rows)
        at = basis.coordinates(embeddings[rows])
        features = np.concatenate(
            [member.left_out_features(at, grouped, len(embeddings)) for member in members],
            axis=1,
        )
        sums = PatientSums.of(features, grouped, dependence)
        total = total + sums.sums.sum(axis=0, dtype=np.float64)
        spread = spread + sums.spreads.sum(axis=0)
        mass += float(sums.masses.sum())
    return np.asarray(total) / mass, np.asarray(spread) / mass**2
