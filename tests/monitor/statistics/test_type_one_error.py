"""False alarms, counted over fresh windows and several references of one population.

Small in dimension and size, so that it runs in seconds; tests/benchmarks has the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from monitor.profiles import ReferenceProfile
from monitor.statistics.persistence import persistence_draws, persistence_statistic

REFERENCES = 5
WEEKS = 24
DIMENSION = 10
CENTRES = np.random.default_rng(0).normal(size=(5, DIMENSION)) * 1.5


def population(patients: int, *, scans_each: int, rng: np.random.Generator) -> np.ndarray:
    """Five clusters, heavy tails, and scans of one patient alike."""
    scales = 1.0 / np.sqrt(np.arange(1, DIMENSION + 1))
    own = rng.normal(size=(patients, DIMENSION)) * np.exp(0.3 * rng.normal(size=(patients, 1)))
    own += CENTRES[rng.integers(0, len(CENTRES), size=patients)]
    scans = np.repeat(own, scans_each, axis=0)
    scans += 0.5 * rng.normal(size=scans.shape) * (scans_each > 1)
    return (scans * scales).astype(np.float32)


@dataclass(frozen=True)
class Counted:
    #: [references, weeks, 3 windows]
    p_values: np.ndarray
    #: the same of each detector
    detectors: dict[str, np.ndarray]
    #: [references, weeks]
    persistence: np.ndarray


@pytest.fixture(scope="module", params=[1, 3], ids=["a-scan-each", "three-scans-each"])
def counted(request: pytest.FixtureRequest) -> Counted:
    each: int = request.param
    rng = np.random.default_rng(17)
    verdicts, persistence = [], []
    for seed in range(REFERENCES):
        names = None if each == 1 else np.repeat(np.arange(240), each)
        reference = population(240, scans_each=each, rng=rng)
        profile = ReferenceProfile.fit(reference, names, seed=seed)
        draws = persistence_draws(
            [40] * 3,
            reference_size=profile.patients,
            forms=profile.portfolio.forms,
            weights=np.array([member.weight for member in profile.portfolio.members]),
        )
        for _ in range(WEEKS):
            names = None if each == 1 else np.repeat(np.arange(40), each)
            week = [
                profile.check(population(40, scans_each=each, rng=rng), names) for _ in range(3)
            ]
            verdicts.append(week)
            statistic = persistence_statistic(np.array([one.p_value for one in week]))
            persistence.append(np.searchsorted(draws, statistic, side="right") / len(draws))
    shape = (REFERENCES, WEEKS, 3)
    return Counted(
        p_values=np.array([[one.p_value for one in week] for week in verdicts]).reshape(shape),
        detectors={
            name: np.array(
                [[one.detectors[name].p_value for one in week] for week in verdicts]
            ).reshape(shape)
            for name in verdicts[0][0].detectors
        },
        persistence=np.array(persistence).reshape(REFERENCES, WEEKS),
    )


def most(checks: int, level: float) -> float:
    """The rate that honest checks exceed once in a thousand runs.

    Checks against one reference share its error, which here costs half of their number.
    """
    return float(binom.isf(1e-3, checks // 2, level)) / (checks // 2)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_portfolio_holds_its_level(counted: Counted, level: float) -> None:
    rate = np.mean(counted.p_values <= level)
    assert 0.4 * level < rate <= most(counted.p_values.size, level)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_every_detector_holds_its_level(counted: Counted, level: float) -> None:
    for name, p_values in counted.detectors.items():
        rate = np.mean(p_values <= level)
        assert 0.3 * level < rate <= most(p_values.size, level), name


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_persistence_rule_holds_its_level(counted: Counted, level: float) -> None:
    rate = np.mean(counted.persistence <= level)
    assert 0.2 * level < rate <= most(counted.persistence.size, level)
