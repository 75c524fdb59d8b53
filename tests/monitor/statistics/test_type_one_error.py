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
# Windows of other sizes than the three a week.
OTHER_SIZES = (20, 100)
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
    #: of windows of other sizes, [references, weeks] each
    other_sizes: dict[int, np.ndarray]


@pytest.fixture(scope="module", params=[1, 3], ids=["a-scan-each", "three-scans-each"])
def counted(request: pytest.FixtureRequest) -> Counted:
    each: int = request.param
    rng = np.random.default_rng(17)
    verdicts, persistence = [], []
    other_sizes: dict[int, list[float]] = {size: [] for size in OTHER_SIZES}
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
            for size, p_values in other_sizes.items():
                names = None if each == 1 else np.repeat(np.arange(size), each)
                window = population(size, scans_each=each, rng=rng)
                p_values.append(profile.check(window, names).p_value)
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
        other_sizes={
            size: np.array(p_values).reshape(REFERENCES, WEEKS)
            for size, p_values in other_sizes.items()
        },
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


@pytest.mark.parametrize("size", OTHER_SIZES)
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_portfolio_holds_its_level_at_other_sizes(
    counted: Counted, level: float, size: int
) -> None:
    p_values = counted.other_sizes[size]
    assert np.mean(p_values <= level) <= most(p_values.size, level)
    assert np.mean(p_values <= 0.5) > 0.3


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_every_detector_holds_its_level(counted: Counted, level: float) -> None:
    for name, p_values in counted.detectors.items():
        rate = np.mean(p_values <= level)
        assert 0.3 * level < rate <= most(p_values.size, level), name


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_persistence_rule_holds_its_level(counted: Counted, level: float) -> None:
    rate = np.mean(counted.persistence <= level)
    assert 0.2 * level < rate <= most(counted.persistence.size, level)


@dataclass(frozen=True)
class Weekly:
    """Checks of new weeks, each moved by a harmless offset of its own, or by none."""

    differ: bool
    #: of the plain null, [references, weeks]
    p_values: np.ndarray
    #: beyond ordinary weeks
    week_p_values: np.ndarray
    #: beyond ordinary weeks, of windows of four
    month_p_values: np.ndarray


def moved_weeks(
    weeks: int, patients: int, *, ratio: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Patients of several weeks, moved by a share of a patient's variance along all axes."""
    week = np.repeat(np.arange(weeks), patients)
    scales = 1.0 / np.sqrt(np.arange(1, DIMENSION + 1))
    # Clusters and heavy tails together have about this variance.
    offsets = rng.normal(size=(weeks, DIMENSION)) * np.sqrt(ratio * 3.0) * scales
    scans = population(len(week), scans_each=1, rng=rng) + offsets[week]
    return scans.astype(np.float32), week


@pytest.fixture(scope="module", params=[0.0, 0.04], ids=["weeks-alike", "weeks-differ"])
def weekly(request: pytest.FixtureRequest) -> Weekly:
    ratio: float = request.param
    rng = np.random.default_rng(23)
    weeks, months = [], []
    for seed in range(REFERENCES):
        reference, week = moved_weeks(16, 25, ratio=ratio, rng=rng)
        profile = ReferenceProfile.fit(reference, weeks=week, seed=seed)
        for _ in range(WEEKS):
            window, _ = moved_weeks(1, 80, ratio=ratio, rng=rng)
            weeks.append(profile.check(window))
            window, week = moved_weeks(4, 20, ratio=ratio, rng=rng)
            months.append(profile.check(window, weeks=week))
    shape = (REFERENCES, WEEKS)
    return Weekly(
        differ=ratio > 0,
        p_values=np.array([one.p_value for one in weeks]).reshape(shape),
        week_p_values=np.array([one.alarm_p_value for one in weeks]).reshape(shape),
        month_p_values=np.array([one.alarm_p_value for one in months]).reshape(shape),
    )


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_ordinary_weeks_are_no_alarm_whether_they_differ_or_not(
    weekly: Weekly, level: float
) -> None:
    for p_values in (weekly.week_p_values, weekly.month_p_values):
        assert np.mean(p_values <= level) <= most(p_values.size, level)
        assert p_values.min() < 0.5


def test_only_weeks_that_differ_alarm_where_weeks_are_not_known(weekly: Weekly) -> None:
    rate = np.mean(weekly.p_values <= 0.05)
    if weekly.differ:
        assert rate > 0.4
    else:
        assert rate <= most(weekly.p_values.size, 0.05)
