"""What models said of labelled scans: the typed input of every gate on performance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.statistics.performance.proportions import checked_weights
from registry.errors import BadInputError

Floats: TypeAlias = npt.NDArray[np.float64]
Booleans: TypeAlias = npt.NDArray[np.bool_]
Strings: TypeAlias = npt.NDArray[np.str_]


class AiInfluence(StrEnum):
    """Whether an AI's result could have moved the reader who gave a label."""

    #: the reader signed before any result was available, and none ordered the worklist
    NONE = "none"
    INFLUENCED = "influenced"
    #: counts as influenced
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """One model's results on labelled scans, for one finding."""

    #: of the finding, float64 [n]
    probabilities: Floats
    #: whether the finding is there, booleans [n]; 0 and 1 are taken, too
    truth: Booleans
    #: pseudonym of each scan's patient, [n]
    patients: Strings
    #: a probability at or above it is called positive
    threshold: float
    #: inverse of each scan's chance to be labelled, [n]; None where the chances are equal
    weights: Floats | None = None

    def __post_init__(self) -> None:
        truth = _truth(self.truth)
        _set(self, "truth", truth)
        _set(self, "weights", checked_weights(self.weights, scans=len(truth)))
        _set(self, "probabilities", _probabilities(self.probabilities, "model's", len(truth)))
        _set(self, "patients", _strings(self.patients, "patients", len(truth)))
        _check_threshold(self.threshold, "model's")

    @property
    def calls(self) -> Booleans:
        """What the model calls positive, booleans [n]."""
        return self.probabilities >= self.threshold

    def patients_with(self, *, finding: bool) -> int:
        """Return how many patients have scans with, or without the finding.

        Weighted patients count as Kish's effective number of them, rounded down.
        """
        return _patients_with(self.patients, self.truth == finding, self.weights)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedResults:
    """Champion's and candidate's results on the same scans of one locked set."""

    #: probability of the finding, float64 [n]
    champion: Floats
    candidate: Floats
    #: the operating points at which they are, or would be, deployed
    champion_threshold: float
    candidate_threshold: float
    #: whether the finding is there, booleans [n]; 0 and 1 are taken, too
    truth: Booleans
    #: pseudonym of each scan's patient, [n]
    patients: Strings
    #: of each scan's label, length n
    influence: tuple[AiInfluence, ...]
    #: attribute -> its value for each scan, [n]
    subgroups: Mapping[str, Strings]
    #: inverse of each scan's chance to be labelled, [n]; None where the chances are equal
    weights: Floats | None = None

    def __post_init__(self) -> None:
        truth = _truth(self.truth)
        scans = len(truth)
        _set(self, "truth", truth)
        _set(self, "weights", checked_weights(self.weights, scans=scans))
        _set(self, "champion", _probabilities(self.champion, "champion's", scans))
        _set(self, "candidate", _probabilities(self.candidate, "candidate's", scans))
        _set(self, "patients", _strings(self.patients, "patients", scans))
        _check_threshold(self.champion_threshold, "champion's")
        _check_threshold(self.candidate_threshold, "candidate's")
        influence = tuple(AiInfluence(one) for one in self.influence)
        if len(influence) != scans:
            raise BadInputError(
                f"{len(influence)} labels carry a provenance, and there are {scans} scans: "
                "give one for each, unknown where it is not known"
            )
        _set(self, "influence", influence)
        attributes = {
            name: _strings(values, f"values of {name!r}", scans)
            for name, values in self.subgroups.items()
        }
        _set(self, "subgroups", MappingProxyType(attributes))

    @property
    def scans(self) -> int:
        return len(self.truth)

    def patients_with(self, *, finding: bool) -> int:
        """Return how many patients have scans with, or without the finding.

        Weighted patients count as Kish's effective number of them, rounded down.
        """
        return _patients_with(self.patients, self.truth == finding, self.weights)

    @property
    def champion_calls(self) -> Booleans:
        """What the champion calls positive, booleans [n]."""
        return self.champion >= self.champion_threshold

    @property
    def candidate_calls(self) -> Booleans:
        """What the candidate calls positive, booleans [n]."""
        return self.candidate >= self.candidate_threshold

    @property
    def of_champion(self) -> Results:
        return Results(
            probabilities=self.champion,
            truth=self.truth,
            patients=self.patients,
            threshold=self.champion_threshold,
            weights=self.weights,
        )

    @property
    def of_candidate(self) -> Results:
        return Results(
            probabilities=self.candidate,
            truth=self.truth,
            patients=self.patients,
            threshold=self.candidate_threshold,
            weights=self.weights,
        )

    def within(self, attribute: str, value: str) -> PairedResults | None:
        """Return the results of the scans whose attribute has the value, None without any."""
        if attribute not in self.subgroups:
            return None
        rows = np.flatnonzero(self.subgroups[attribute] == value)
        if len(rows) == 0:
            return None
        return PairedResults(
            champion=self.champion[rows],
            candidate=self.candidate[rows],
            champion_threshold=self.champion_threshold,
            candidate_threshold=self.candidate_threshold,
            truth=self.truth[rows],
            patients=self.patients[rows],
            influence=tuple(self.influence[row] for row in rows),
            subgroups={name: values[rows] for name, values in self.subgroups.items()},
            weights=None if self.weights is None else self.weights[rows],
        )


def _patients_with(patients: Strings, chosen: Booleans, weights: Floats | None) -> int:
    names, codes = np.unique(patients[chosen], return_inverse=True)
    if weights is None or len(names) == 0:
        return len(names)
    by_patient = np.bincount(codes, weights=weights[chosen])
    return int(by_patient.sum() ** 2 / (by_patient @ by_patient))


def _set(target: object, name: str, value: object) -> None:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    object.__setattr__(target, name, value)


def _truth(truth: npt.ArrayLike) -> Booleans:
    array = np.asarray(truth)
    if array.ndim != 1 or array.size == 0 or not np.isin(array, (0, 1)).all():
        raise BadInputError(
            f"truth must be one 0 or 1 for each of at least one scan, got {array.dtype} of "
            f"shape {list(array.shape)}: leave scans without a label out"
        )
    return array.astype(np.bool_)


def _probabilities(values: npt.ArrayLike, whose: str, scans: int) -> Floats:
    array = np.array(values, dtype=np.float64)
    if array.shape != (scans,):
        raise BadInputError(
            f"the {whose} probabilities have shape {list(array.shape)}, and there are {scans} "
            "labels: pass one of the finding for each labelled scan"
        )
    # Written so that NaN is refused, too.
    if not ((array >= 0.0) & (array <= 1.0)).all():
        raise BadInputError(
            f"the {whose} probabilities do not all lie between 0 and 1: "
            "pass probabilities, not logits, and look for NaN"
        )
    return array


def _strings(values: npt.ArrayLike, what: str, scans: int) -> Strings:
    array = np.array(values)
    if array.shape != (scans,) or array.dtype.kind not in "US":
        raise BadInputError(
            f"the {what} must be one string for each of {scans} scans, got {array.dtype} of "
            f"shape {list(array.shape)}"
        )
    if what == "patients" and (array == "").any():
        raise BadInputError("some scans have an empty pseudonym: give every patient one")
    strings = array.astype(np.str_)
    strings.flags.writeable = False
    return strings


def _check_threshold(threshold: float, whose: str) -> None:
    if not 0.0 < threshold < 1.0:
        raise BadInputError(
            f"the {whose} threshold is {threshold}: it must lie between 0 and 1, both excluded"
        )
