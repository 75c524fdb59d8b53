"""Two groups of patients, and random splits of them: what exact tests share.

Under the hypothesis that reference and window are drawn alike, every way to choose as many
of all patients for the window is as likely as the one that was observed. Whole patients
move, so a split's number of scans varies, and every statistic is divided by its own counts.
Drawn alike means the scans per patient, too: a reference that spans years, and so holds more
of each patient than a week does, should give as many of each as the week.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import (
    Embeddings,
    Flags,
    Floats,
    Integers,
    Singles,
    checked_embeddings,
    require_variety,
)
from monitor.statistics.patients import Identifiers, Patients
from registry.errors import BadInputError, InsufficientDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactTest:
    """A statistic of two groups, and its rank among random splits of the patients."""

    statistic: float
    #: (1 + splits at least as extreme) / (1 + permutations)
    p_value: float
    permutations: int

    def __post_init__(self) -> None:
        if not 0 < self.p_value <= 1:
            raise ValueError(f"a p-value lies in (0, 1], got {self.p_value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """The scans of reference and window together, each patient's side by side."""

    #: [M, d]
    embeddings: Singles
    #: of the M scans; their codes rise
    patients: Patients
    #: [P] patients of the window
    window: Flags

    @classmethod
    def of(
        cls,
        reference: Embeddings,
        window: Embeddings,
        reference_patients: Identifiers | None = None,
        window_patients: Identifiers | None = None,
    ) -> Pooled:
        """Pool reference [N, d] and window [n, d]; scans without identifiers are patients.

        Raises
        ------
        EmbeddingsError
            If a group's embeddings or identifiers cannot be used.
        InsufficientDataError
            If a group has fewer than two scans or patients.
        BadInputError
            If a patient has scans in both groups.
        """
        before = checked_embeddings(reference, what="reference")
        after = checked_embeddings(window, what="window", dimension=before.shape[1])
        groups = []
        for scans, identifiers, what in (
            (before, reference_patients, "reference"),
            (after, window_patients, "window"),
        ):
            require_variety(scans, what=what)
            patients = Patients.of(identifiers, scans=len(scans))
            for units, count in (("scans", len(scans)), ("patients", patients.count)):
                if count < 2:
                    raise InsufficientDataError(
                        what=f"{units} of the {what}", needed=2, got=count
                    )
            groups.append(patients)
        _require_disjoint(reference_patients, window_patients)
        codes = np.concatenate([groups[0].codes, groups[0].count + groups[1].codes])
        order = np.argsort(codes, kind="stable")
        counts = np.concatenate([groups[0].scans, groups[1].scans])
        return cls(
            embeddings=np.concatenate([before, after])[order],
            patients=Patients(codes=codes[order], scans=counts),
            window=np.arange(len(counts)) >= groups[0].count,
        )


def _require_disjoint(
    reference_patients: Identifiers | None, window_patients: Identifiers | None
) -> None:
    if reference_patients is None or window_patients is None:
        return
    shared = set(np.asarray(reference_patients).tolist()) & set(
        np.asarray(window_patients).tolist()
    )
    if shared:
        raise BadInputError(
            f"{len(shared)} patients have scans in the reference and in the window: "
            "whole patients are permuted, so leave each out of one of them"
        )


def permuted_splits(
    window: Flags,
    *,
    permutations: int,
    rng: np.random.Generator,
    stratum: Integers | None = None,
) -> Flags:
    """Return which patients a split puts into the window, [P, 1 + permutations].

    The first column is the observed split; the others are independent uniform draws.

    Parameters
    ----------
    window : [P] patients of the window
    permutations : number of random splits, at least 1
    rng : draws them
    stratum : [P] number of each patient's stratum, within which patients are permuted

    Raises
    ------
    BadInputError
        If no permutation is asked for.
    """
    if permutations < 1:
        raise BadInputError(f"a p-value needs at least 1 permutation, got {permutations}")
    splits = np.zeros((len(window), 1 + permutations), dtype=np.bool_)
    splits[:, 0] = window
    strata = np.zeros(len(window), dtype=np.int64) if stratum is None else stratum
    for one in np.unique(strata):
        members = np.flatnonzero(strata == one)
        chosen = int(np.count_nonzero(window[members]))
        for column in range(1, 1 + permutations):
            drawn = rng.choice(len(members), size=chosen, replace=False, shuffle=False)
            splits[members[drawn], column] = True
    return splits


def permutation_p_value(statistics: Floats, *, tolerance: float) -> float:
    """Return (1 + b)/(1 + B), b of B permuted statistics being at least the observed one.

    Phipson & Smyth (2010), *Stat. Appl. Genet. Mol. Biol.* 9:39: valid with permutations
    drawn with replacement, and never 0.

    Parameters
    ----------
    statistics : [1 + B], the observed one first
    tolerance : differences that are rounding: less by no more than this counts as at least

    Examples
    --------
    >>> permutation_p_value(np.array([1.0, 0.5, 1.0, 2.0]), tolerance=1e-9)
    0.75
    """
    exceedances = np.count_nonzero(statistics[1:] >= statistics[0] - tolerance)
    return (1 + int(exceedances)) / len(statistics)
