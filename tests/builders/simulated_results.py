"""Results of two simulated models whose true rates are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from retrain.gates.results import AiInfluence, PairedResults

#: sensitivity and specificity at the threshold of 0.5
Rates: TypeAlias = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Two models whose scores are correlated normals, with known true rates at 0.5."""

    positives: int = 219
    negatives: int = 81
    champion: Rates = (0.92, 0.86)
    candidate: Rates = (0.92, 0.86)
    correlation: float = 0.8
    scans_of_a_patient: int = 1
    #: attribute -> its values, dealt out in turn
    attributes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"sex": ("F", "M")}
    )
    #: (attribute, value) -> the candidate's rates there, where they are others
    candidate_within: Mapping[tuple[str, str], Rates] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> PairedResults:
        scans = self.positives + self.negatives
        truth = np.arange(scans) < self.positives
        patients = np.arange(scans) // self.scans_of_a_patient
        # Scores of one patient share half of their variance.
        shared = rng.normal(size=(2, patients.max() + 1))[:, patients]
        own = rng.normal(size=(2, scans))
        errors = own if self.scans_of_a_patient == 1 else (shared + own) / np.sqrt(2)
        first = errors[0]
        second = self.correlation * first + np.sqrt(1 - self.correlation**2) * errors[1]
        subgroups = {
            name: np.array([values[index % len(values)] for index in range(scans)])
            for name, values in self.attributes.items()
        }

        def probabilities(rates: Rates, error: np.ndarray) -> np.ndarray:
            return expit(np.where(truth, norm.ppf(rates[0]), -norm.ppf(rates[1])) + error)

        candidate = probabilities(self.candidate, second)
        for (attribute, value), rates in self.candidate_within.items():
            inside = subgroups[attribute] == value
            candidate = np.where(inside, probabilities(rates, second), candidate)
        return PairedResults(
            champion=probabilities(self.champion, first),
            candidate=candidate,
            champion_threshold=0.5,
            candidate_threshold=0.5,
            truth=truth,
            patients=np.array([f"p{one}" for one in patients]),
            influence=(AiInfluence.NONE,) * scans,
            subgroups=subgroups,
        )
