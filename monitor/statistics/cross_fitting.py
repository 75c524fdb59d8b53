"""Fitting a portfolio: features on everything, the null where they have not looked.

Patients are split into folds. Moments are kept by fold, so that the features without a
fold come by subtraction. Held-out scans then give the spectrum, the dependence between
scans of one patient, and the null; the reference's own mean is taken over all scans, or,
for maps that were fitted on the shaping patients, over all other patients' scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates, Frame
from monitor.statistics.design import (
    SHAPING_SHARE,
    Design,
    Fit,
    landmark_count,
    subspace_size,
)
from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.members.member import Member
from monitor.statistics.members.novelty import log_nearest
from monitor.statistics.members.occupancy import Cells
from monitor.statistics.members.residual import log_residuals
from monitor.statistics.null import FoldSums, NullTable
from monitor.statistics.patients import Patients, chunks_of_patients, some_patients
from monitor.statistics.persistence import GROUPS
from monitor.statistics.portfolio import Portfolio, all_features
from monitor.statistics.subspace import Subspace
from monitor.statistics.two_sample import (
    Dependence,
    Layout,
    PatientSums,
    intraclass_correlations,
    traces,
)
from monitor.statistics.weeks import WeekSums, week_effects
from monitor.statistics.whitening import Eigenbasis, Moments, smooth_spectrum

_FOLDS = 5
_DRAWS = 5000
# Each form plays four parts in turn.
_FORMS = 2000
# Patients of a fold that the null is drawn from.
_FOLD_PATIENTS = 600
# Scans from which a distribution function, a variance or a cell is read.
_SCANS = 8000
_CHUNK = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A reference, and how its patients are divided."""

    #: [N, d]
    embeddings: Singles
    patients: Patients
    #: [N] fold of each scan's patient, 0 .. 4
    fold: Integers
    #: [N] whether a scan's patient shapes the split members
    shaping: Flags
    #: of the scans by fold, those that do not shape and those that do
    moments: Moments

    @classmethod
    def of(
        cls, embeddings: Singles, patients: Patients, *, rng: np.random.Generator
    ) -> _Source:
        fold = (rng.permutation(patients.count) % _FOLDS)[patients.codes].astype(np.int64)
        shapers = int(SHAPING_SHARE * patients.count)
        shaping = (rng.permutation(patients.count) < shapers)[patients.codes]
        return cls(
            embeddings=embeddings,
            patients=patients,
            fold=fold,
            shaping=shaping,
            moments=Moments.of(embeddings, 2 * fold + shaping, chunk=_CHUNK),
        )

    def basis(self, *, without: int | None = None) -> Eigenbasis:
        """Return the eigenbasis of all patients but a fold's."""
        return self.moments.basis(np.arange(2 * _FOLDS) // 2 != _absent(without))

    def frame(self, basis: Eigenbasis, *, without: int | None = None) -> Frame:
        """Return the basis beside the subspace of the shaping patients but a fold's."""
        groups = np.arange(2 * _FOLDS)
        subspace = Subspace.of(
            self.moments,
            (groups // 2 != _absent(without)) & (groups % 2 == 1),
            size=subspace_size(self.embeddings.shape[1], self.patients.count),
        )
        return Frame(basis=basis, subspace=subspace)

    def some_rows(
        self, rows: Integers, *, scans: int = _SCANS, rng: np.random.Generator
    ) -> Integers:
        """Return the scans of some of the rows' patients, or all."""
        return rows[some_patients(self.patients.subset(rows), scans=scans, rng=rng)]


def fit_portfolio(
    embeddings: Singles, patients: Patients, week: Integers | None, *, seed: int
) -> Portfolio:
    """Fit a portfolio on a reference [N, d], with the number of each scan's week [N]."""
    division, choices, sample, null, forms = np.random.default_rng(seed).spawn(5)
    source = _Source.of(embeddings, patients, rng=division)
    bases = [source.basis(without=k) for k in range(_FOLDS)]
    rank = min(embeddings.shape[1], patients.count * (_FOLDS - 1) // _FOLDS - 1)
    spectrum = smooth_spectrum(_held_out_variances(source, bases, rng=sample), rank=rank)

    frame = source.frame(source.basis())
    some = source.some_rows(np.arange(len(embeddings)), rng=sample)
    at = frame.coordinates(embeddings[some])
    design = Design.of(
        frame.basis, spectrum, at, source.shaping[some], patients=patients.count, rng=choices
    )
    fit = _fit(source, frame, some, at, design, fitted=len(embeddings), rng=choices)
    members = design.members(fit)
    layout = Layout.of(members)
    weights = np.array([member.weight for member in members])

    parts = [_held_out(source, k, bases[k], design, rng=sample) for k in range(_FOLDS)]
    dependence, all_traces, folds = _summed(parts, layout)
    # A fold's features are many, and what follows needs room of its own.
    del parts
    mean = _reference_mean(source, frame, members, dependence, week)
    table = NullTable.draw(folds, weights=weights, draws=_DRAWS, rng=null)
    return Portfolio(
        design=design,
        fit=fit,
        dependence=dependence,
        centre=mean.centre.astype(np.float32),
        traces=all_traces,
        inverse_sizes=mean.inverse_sizes,
        patients=patients.count,
        null=table,
        forms=np.concatenate(
            [fold.forms(groups=GROUPS, draws=_FORMS // _FOLDS, rng=forms) for fold in folds]
        ),
        weeks=None
        if mean.weeks is None
        else week_effects(
            mean.weeks,
            layout=layout,
            traces=all_traces,
            leverages=np.array([member.whitened for member in members]) / patients.count,
            null=table,
        ),
    )


def _summed(
    parts: Sequence[_HeldOut], layout: Layout
) -> tuple[Dependence, Floats, list[FoldSums]]:
    """Return what folds' features say: dependence, traces [G], and sums to draw from."""
    dependence = Dependence(
        correlations=np.mean(
            [intraclass_correlations(part.features, part.patients, layout) for part in parts],
            axis=0,
        )
    )
    sums = [PatientSums.of(part.features, part.patients, dependence) for part in parts]
    return (
        dependence,
        np.asarray(np.mean([traces(one, layout) for one in sums], axis=0)),
        [FoldSums.of(one, layout) for one in sums],
    )


def _absent(fold: int | None) -> int:
    return -1 if fold is None else fold


def _held_out_variances(
    source: _Source, bases: Sequence[Eigenbasis], *, rng: np.random.Generator
) -> Floats:
    """Return the variance of a fold's scans along directions found without it, [d]."""
    variances = []
    for k, basis in enumerate(bases):
        own = source.some_rows(
            np.flatnonzero(source.fold == k), scans=_SCANS // _FOLDS, rng=rng
        )
        principal = basis.principal(basis.centred(source.embeddings[own]))
        variances.append(np.square(principal, dtype=np.float64).mean(axis=0))
    return np.asarray(np.mean(variances, axis=0))


def _fit(
    source: _Source,
    frame: Frame,
    rows: Integers,
    at: Coordinates,
    design: Design,
    *,
    fitted: int,
    rng: np.random.Generator,
) -> Fit:
    """Fit the members' maps.

    Parameters
    ----------
    frame : of the patients that count
    rows : all scans of some of these patients
    at : their coordinates
    fitted : scans that the frame was fitted on
    """
    scores = design.left_out_scores(
        at.principal,
        frame.basis.variances,
        patients=source.patients.subset(rows),
        scans=fitted,
    )
    shaping = source.shaping[rows]
    points = at.leading[shaping, : design.leading]
    chosen = rng.permutation(len(points))[: landmark_count(len(points))]
    landmarks = np.ascontiguousarray(points[chosen])
    return Fit(
        frame=frame,
        scores=np.sort(scores, axis=1),
        residuals=np.sort(log_residuals(at)[~shaping]),
        landmarks=landmarks,
        novelties=np.sort(log_nearest(at, landmarks)[~shaping]),
        cells=Cells.of(at, design.cell_precisions, count=design.cells, rng=rng),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldOut:
    """Features of some of a fold's scans, fitted without the fold."""

    features: Singles
    patients: Patients


def _held_out(
    source: _Source, k: int, basis: Eigenbasis, design: Design, *, rng: np.random.Generator
) -> _HeldOut:
    """See fold k through features fitted without it."""
    frame = source.frame(basis, without=k)
    others = np.flatnonzero(source.fold != k)
    some = source.some_rows(others, rng=rng)
    at = frame.coordinates(source.embeddings[some])
    members = design.members(_fit(source, frame, some, at, design, fitted=len(others), rng=rng))
    own = np.flatnonzero(source.fold == k)
    grouped = source.patients.subset(own)
    chosen = np.zeros(grouped.count, dtype=bool)
    chosen[rng.permutation(grouped.count)[:_FOLD_PATIENTS]] = True
    kept = own[grouped.members(chosen)]
    features = [
        all_features(members, frame.coordinates(source.embeddings[kept[i : i + _CHUNK]]))
        for i in range(0, len(kept), _CHUNK)
    ]
    return _HeldOut(features=np.concatenate(features), patients=source.patients.subset(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReferenceMean:
    #: [D] mean features
    centre: Floats
    #: [G] 1 / effective number of scans
    inverse_sizes: Floats
    weeks: WeekSums | None


def _reference_mean(
    source: _Source,
    frame: Frame,
    members: Sequence[Member],
    dependence: Dependence,
    week: Integers | None,
) -> _ReferenceMean:
    """Average the features of the reference, and sum them by week.

    Scans of shaping patients count for the members that they did not shape.
    """
    layout = Layout.of(members)
    split = np.array([member.split for member in members])
    totals = np.zeros(int(layout.edges[-1]))
    masses, spreads = np.zeros(len(members)), np.zeros(len(members))
    by_week = None if week is None else WeekSums.empty(int(week.max()) + 1, layout)
    for shaping in (False, True):
        counted = ~split | (not shaping)
        rows = np.flatnonzero(source.shaping == shaping)
        grouped = source.patients.subset(rows)
        for chunk in chunks_of_patients(grouped, scans=_CHUNK):
            at = frame.coordinates(source.embeddings[rows[chunk]])
            own = grouped.subset(chunk)
            features = np.zeros((len(chunk), int(layout.edges[-1])), dtype=np.float32)
            for g in np.flatnonzero(counted).tolist():
                features[:, layout.part(g)] = members[g].left_out_features(
                    at, own, len(source.embeddings)
                )
            sums = PatientSums.of(features, own, dependence)
            totals += sums.sums.sum(axis=0, dtype=np.float64)
            masses += counted * sums.masses.sum()
            spreads += counted * sums.spreads.sum(axis=0)
            if by_week is not None and week is not None:
                by_week.add(
                    features,
                    own,
                    week[rows[chunk]],
                    dependence=dependence,
                    layout=layout,
                    counted=counted,
                )
    return _ReferenceMean(
        centre=totals / np.repeat(masses, np.diff(layout.edges)),
        inverse_sizes=spreads / masses**2,
        weeks=by_week,
    )
