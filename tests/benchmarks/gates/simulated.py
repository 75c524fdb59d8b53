"""What the simulations of gates share: limits of a plan, counts of outcomes, and their tables."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parent / "drift"),
    str(HERE.parents[1] / "builders"),
]

import numpy as np  # noqa: E402  after the thread limits
from results import Results  # noqa: E402

from retrain.gates.impact import Change, MeasuredImpact  # noqa: E402
from retrain.gates.limits import (  # noqa: E402
    CalibrationLimits,
    GateLimits,
    Margins,
    Range,
    RobustnessLimits,
    Subgroup,
    SubgroupLimits,
)

SIMULATIONS = 1000
SITES = tuple(f"site {letter}" for letter in "ABCDEFGH")
KEPT = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.KEPT)
LIMITS = GateLimits(
    superiority_alpha=0.025,
    non_inferiority_alpha=0.05,
    drifted_margins=Margins(sensitivity=0.10, specificity=0.15, auc=0.05),
    reference_margins=Margins(sensitivity=0.05, specificity=0.10, auc=0.03),
    minimum_positives=30,
    minimum_negatives=30,
    subgroups=SubgroupLimits(
        declared=tuple(Subgroup(attribute="site", value=site) for site in SITES),
        sensitivity_margin=0.10,
        specificity_margin=0.10,
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
    bundle_megabytes=100.0,
)


def kept(name: str) -> Results:
    """Return the file in which the figures of one table are kept."""
    return Results(name, folder=HERE / "results")


def generator(key: str) -> np.random.Generator:
    """Return a generator of its own for each cell of a table."""
    return np.random.default_rng(list(key.encode()))


def shares(draw: Callable[[], dict[str, bool]], *, simulations: int) -> dict[str, float]:
    """Return how often each thing happened."""
    counts: Counter[str] = Counter()
    for _ in range(simulations):
        counts.update({name: int(happened) for name, happened in draw().items()})
    return {name: count / simulations for name, count in counts.items()}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a table in Markdown, as lines."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def share(value: float) -> str:
    """Return a share for a cell."""
    return f"{value:.3f}"
