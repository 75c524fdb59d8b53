"""Patients are the unit: scans of one patient are dependent, patients are not.

A statistic over scans is written as a sum over patients. With m scans of a patient and
an intraclass correlation rho, each of them weighs 1 / (1 + (m - 1) rho): from one scan in
m (rho = 1) to m scans (rho = 0). The variance of the weighted mean is then
sum(A^2 (1 + (m - 1) rho) / m) / (sum A)^2 of the scans' variance, A = m times the weight:
the inverse of an effective number of scans (Kish 1965, *Survey Sampling*, section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats, Integers, Singles
from registry.errors import EmbeddingsError

Identifiers: TypeAlias = Sequence[str] | Sequence[int] | npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """Which scans belong to which patient."""

    #: [n] number of the patient, 0 .. count - 1
    codes: Integers
    #: [count] scans of each patient
    scans: Integers

    @property
    def count(self) -> int:
        return len(self.scans)

    @classmethod
    def of(
        cls, identifiers: Identifiers | None, *, scans: int, what: str = "patient"
    ) -> Patients:
        """Group scans by identifier; without identifiers each scan is its own patient.

        Raises
        ------
        EmbeddingsError
            If there is not one identifier, a string or an integer, for each scan.
        """
        if identifiers is None:
            return cls(codes=np.arange(scans), scans=np.ones(scans, dtype=np.int64))
        array = np.asarray(identifiers)
        if array.shape != (scans,):
            raise EmbeddingsError(
                f"{scans} embeddings came with {what} identifiers of shape "
                f"{list(array.shape)}: pass one identifier for each, or none at all"
            )
        if array.dtype.kind == "O" and all(isinstance(one, str) for one in array):
            array = array.astype(np.str_)
        if array.dtype.kind not in "USiu":
            raise EmbeddingsError(
                f"{what} identifiers must all be strings or all be integers, "
                f"got an array of {array.dtype}; a scan without a patient is its own"
            )
        _, codes = np.unique(array, return_inverse=True)
        return cls(codes=codes.astype(np.int64), scans=np.bincount(codes).astype(np.int64))

    def members(self, chosen: npt.NDArray[np.bool_]) -> Integers:
        """Return the scans [k] of the chosen patients ([count]), in the given order."""
        return np.flatnonzero(chosen[self.codes])

    def subset(self, rows: Integers) -> Patients:
        """Return the grouping of some scans, whose patients are counted anew."""
        _, codes = np.unique(self.codes[rows], return_inverse=True)
        return Patients(codes=codes.astype(np.int64), scans=np.bincount(codes).astype(np.int64))

    def sums(self, values: Singles) -> Singles:
        """Return the sum of the scans' values ([n, D]) for each patient ([count, D])."""
        if self.count == len(self.codes):
            if bool((self.codes[1:] > self.codes[:-1]).all()):
                return values
            ordered = np.empty_like(values)
            ordered[self.codes] = values
            return ordered
        order = np.argsort(self.codes, kind="stable")
        starts = np.concatenate(([0], np.cumsum(self.scans)[:-1]))
        return np.add.reduceat(values[order], starts, axis=0)

    def weights(self, correlation: float) -> Floats:
        """Return each patient's weight per scan, [count]."""
        weights: Floats = 1.0 / (1.0 + (self.scans.astype(np.float64) - 1.0) * correlation)
        return weights


def chunks_of_patients(patients: Patients, *, scans: int) -> list[Integers]:
    """Split all scans into runs of whole patients, of about the given length."""
    order = np.argsort(patients.codes, kind="stable")
    ends = np.cumsum(patients.scans)
    cuts = [0]
    while cuts[-1] < len(order):
        # At least one patient, however many scans he has.
        last = int(np.searchsorted(ends, cuts[-1] + scans, side="right"))
        following = int(np.searchsorted(ends, cuts[-1], side="right"))
        cuts.append(int(ends[max(last - 1, following)]))
    return [order[start:end] for start, end in pairwise(cuts)]


def some_patients(patients: Patients, *, scans: int, rng: np.random.Generator) -> Integers:
    """Return the scans of a random set of patients, about `scans` of them, or all."""
    if len(patients.codes) <= scans:
        return np.arange(len(patients.codes))
    order = rng.permutation(patients.count)
    taken = max(1, int(np.searchsorted(np.cumsum(patients.scans[order]), scans, side="right")))
    chosen = np.zeros(patients.count, dtype=bool)
    chosen[order[:taken]] = True
    return patients.members(chosen)
