from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from retrain.gates.limits import (
    CalibrationLimits,
    GateLimits,
    Margins,
    Range,
    Subgroup,
    SubgroupLimits,
)
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

        def probabilities(rates: Rates, error: np.ndarray) -> np.ndarray:
            return expit(np.where(truth, norm.ppf(rates[0]), -norm.ppf(rates[1])) + error)

        return PairedResults(
            champion=probabilities(self.champion, first),
            candidate=probabilities(self.candidate, second),
            champion_threshold=0.5,
            candidate_threshold=0.5,
            truth=truth,
            patients=np.array([f"p{one}" for one in patients]),
            influence=(AiInfluence.NONE,) * scans,
            subgroups={
                name: np.array([values[index % len(values)] for index in range(scans)])
                for name, values in self.attributes.items()
            },
        )


@pytest.fixture
def simulation() -> Callable[..., Simulation]:
    return Simulation


@pytest.fixture
def limits() -> GateLimits:
    return GateLimits(
        superiority_alpha=0.025,
        non_inferiority_alpha=0.05,
        drifted_margins=Margins(sensitivity=0.10, specificity=0.15, auc=0.05),
        reference_margins=Margins(sensitivity=0.05, specificity=0.10, auc=0.03),
        minimum_positives=30,
        minimum_negatives=30,
        subgroups=SubgroupLimits(
            declared=(
                Subgroup(attribute="sex", value="F"),
                Subgroup(attribute="sex", value="M"),
            ),
            sensitivity_margin=0.10,
            specificity_margin=0.15,
            minimum=25,
            harm_alpha=0.05,
        ),
        calibration=CalibrationLimits(
            intercept=Range(low=-0.7, high=0.7),
            slope=Range(low=0.6, high=1.6),
            error=0.1,
            bins=8,
            alpha=0.05,
            resamples=200,
            seed=0,
        ),
        parity_tolerance=1e-3,
    )
