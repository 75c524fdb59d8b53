from collections.abc import Callable

import pytest
from simulated_results import Simulation

from retrain.gates.limits import (
    CalibrationLimits,
    GateLimits,
    Margins,
    Range,
    RobustnessLimits,
    Subgroup,
    SubgroupLimits,
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
        robustness=RobustnessLimits(sensitivity_margin=0.05, specificity_margin=0.10),
        latency_ratio=1.5,
        bundle_megabytes=50.0,
    )
