from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from monitor.statistics.null import FoldSums, NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums, growths
from monitor.statistics.weeks import WeekEffects, WeekSums, week_effects

# Three directions, five, and indicators of four cells.
LAYOUT = Layout(edges=np.array([0, 3, 8, 12]), peaked=np.array([False, False, True]))
TRACES = np.array([3.0, 5.0, 1.0])
DEPENDENCE = Dependence(correlations=np.array([0.2, 0.4, 0.3]))
EVERYWHERE = np.array([True, True, True])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])


@pytest.fixture(scope="module")
def null() -> NullTable:
    """The law of T when scans are independent and have the stated variances."""
    rng = np.random.default_rng(0)
    folds = []
    for _ in range(5):
        features = some_features(np.zeros(200, dtype=np.int64), ratio=0.0, rng=rng)
        patients = Patients.of(None, scans=200)
        folds.append(
            FoldSums.of(PatientSums.of(features, patients, Dependence.none(3)), LAYOUT)
        )
    return NullTable.draw(folds, weights=np.ones(3), draws=2000, rng=rng)


def some_features(
    week: np.ndarray, *, ratio: float, rng: np.random.Generator, share_spread: float = 0.0
) -> np.ndarray:
    """Features of variance one each, moved by week with the given ratio of variances."""
    weeks = int(week.max()) + 1
    moved = rng.normal(size=(weeks, 8))[week] * np.sqrt(ratio)
    shares = SHARES * np.exp(share_spread * rng.normal(size=(weeks, 4)))
    ends = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    cell = (rng.random(len(week))[:, None] > ends[week]).sum(axis=1).clip(max=3)
    return np.hstack([rng.normal(size=(len(week), 8)) + moved, np.eye(4)[cell]]).astype(
        np.float32
    )


def summed(
    features: np.ndarray,
    patients: Patients,
    week: np.ndarray,
    *,
    dependence: Dependence = DEPENDENCE,
    counted: np.ndarray = EVERYWHERE,
) -> WeekSums:
    sums = WeekSums.empty(int(week.max()) + 1, LAYOUT)
    sums.add(features, patients, week, dependence=dependence, layout=LAYOUT, counted=counted)
    return sums


def plain_week(
    features: np.ndarray, codes: np.ndarray, week: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare a week with all others, by double sums over units: a patient in a week.

    Returns unbiased squared shifts [3], inverse sizes [3], and growths of shares [4].
    """
    units = sorted({(int(w), int(c)) for w, c in zip(week, codes, strict=True)})
    rows = {
        unit: [i for i in range(len(week)) if (week[i], codes[i]) == unit] for unit in units
    }
    pooled = float(DEPENDENCE.correlations.mean())
    weight = {unit: 1 / (1 + (len(rows[unit]) - 1) * pooled) for unit in units}
    mass = {unit: weight[unit] * len(rows[unit]) for unit in units}
    total = {unit: weight[unit] * features[rows[unit]].sum(axis=0) for unit in units}
    own = [unit for unit in units if unit[0] == number]
    rest = [unit for unit in units if unit[0] != number]

    def mean_product(a: list, b: list, columns: slice) -> float:
        pairs = [(i, j) for i, j in product(a, b) if i != j]
        products = sum(float(total[i][columns] @ total[j][columns]) for i, j in pairs)
        return products / sum(mass[i] * mass[j] for i, j in pairs)

    def inverse_size(part: list, g: int) -> float:
        rho = DEPENDENCE.correlations[g]
        variance = sum(
            mass[u] ** 2 * (1 + (len(rows[u]) - 1) * rho) / len(rows[u]) for u in part
        )
        return float(variance / sum(mass[u] for u in part) ** 2)

    shifts, inverse = [], []
    for g in range(3):
        columns = LAYOUT.part(g)
        shifts.append(
            mean_product(own, own, columns)
            + mean_product(rest, rest, columns)
            - 2 * mean_product(own, rest, columns)
        )
        inverse.append(inverse_size(own, g) + inverse_size(rest, g))
    shares = [
        sum(total[u][LAYOUT.part(2)] for u in part) / sum(mass[u] for u in part)
        for part in (own, rest)
    ]
    growth = growths(shares[0], inverse_size(own, 2), shares[1], inverse_size(rest, 2))
    return np.array(shifts), np.array(inverse), growth


def with_error(estimates: np.ndarray) -> np.ndarray:
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    return np.maximum(estimates.mean(axis=0) + error, 0.0)


@pytest.fixture(scope="module")
def returning() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, patients and weeks: several scans each, and some patients in two weeks."""
    rng = np.random.default_rng(4)
    week = np.sort(rng.integers(0, 5, size=90))
    codes = rng.integers(0, 60, size=90)
    weeks_of = [len(set(week[codes == code])) for code in set(codes)]
    assert max(weeks_of) > 1
    return some_features(week, ratio=0.3, rng=rng, share_spread=0.4), codes, week


def test_effects_are_those_of_double_sums_week_by_week(
    returning: tuple[np.ndarray, np.ndarray, np.ndarray], null: NullTable
) -> None:
    features, codes, week = returning
    sums = summed(features, Patients.of(codes, scans=90), week)
    effects = week_effects(sums, layout=LAYOUT, traces=TRACES, leverages=np.zeros(3), null=null)
    parts = [plain_week(features, codes, week, number) for number in range(5)]
    shifts, inverse, growth = (np.stack(part) for part in zip(*parts, strict=True))
    ratios = with_error(shifts / (TRACES * 1.25))
    assert effects.weeks == 5
    assert effects.variance(1.0) == 1.2
    assert effects.ratios[:2] == pytest.approx(ratios[:2], rel=1e-3)
    assert effects.ratios[2] == 0.0
    by_feature = with_error((growth**2 - inverse[:, 2:]) / 1.25)
    assert effects.feature_ratios[8:] == pytest.approx(by_feature, rel=1e-3)
    assert not effects.feature_ratios[:8].any()


def test_inflations_are_what_past_weeks_spread_beyond_the_null(
    returning: tuple[np.ndarray, np.ndarray, np.ndarray], null: NullTable
) -> None:
    features, codes, week = returning
    sums = summed(features, Patients.of(codes, scans=90), week)
    effects = week_effects(sums, layout=LAYOUT, traces=TRACES, leverages=np.zeros(3), null=null)
    squares = []
    for number in range(5):
        shifts, inverse, _ = plain_week(features, codes, week, number)
        statistic = (shifts - effects.ratios * TRACES) / (inverse + effects.ratios * 1.25)
        patients = len(set(codes[week == number]))
        nearest = max(i for i, size in enumerate(null.sizes) if size <= patients)
        squares.append((statistic / null.deviations[nearest]) ** 2)
    expected = np.maximum(np.sqrt(np.mean(squares, axis=0)), 1.0)
    assert effects.inflations[:2] == pytest.approx(expected[:2], rel=1e-3)
    assert effects.inflations[2] == 1.0


def test_scans_may_come_in_parts_and_count_for_some_members_only(
    returning: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    features, codes, week = returning
    patients = Patients.of(codes, scans=90)
    whole = summed(features, patients, week)
    parts = WeekSums.empty(5, LAYOUT)
    early = patients.codes < 20
    for rows in (np.flatnonzero(early), np.flatnonzero(~early)):
        parts.add(
            features[rows],
            patients.subset(rows),
            week[rows],
            dependence=DEPENDENCE,
            layout=LAYOUT,
            counted=EVERYWHERE,
        )
    some = summed(features, patients, week, counted=np.array([True, False, True]))
    for name in ("squares", "masses", "squared_masses", "spreads", "counts"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-5)
        assert np.array_equal(getattr(some, name)[:, [0, 2]], getattr(whole, name)[:, [0, 2]])
        assert not getattr(some, name)[:, 1].any()
    assert parts.sums == pytest.approx(whole.sums, abs=1e-4)
    assert np.array_equal(some.sums[:, :3], whole.sums[:, :3])
    assert not some.sums[:, 3:8].any()


def test_a_patient_counts_once_in_each_of_his_weeks() -> None:
    features = some_features(
        np.zeros(5, dtype=np.int64), ratio=0.0, rng=np.random.default_rng(0)
    )
    week = np.array([0, 0, 1, 1, 1])
    sums = summed(features, Patients.of(["a", "a", "a", "b", "b"], scans=5), week)
    assert sums.counts[:, 0].tolist() == [1.0, 2.0]


def effects_of(
    ratio: float, *, seed: int, null: NullTable, share_spread: float = 0.0, each: int = 40
) -> WeekEffects:
    """Learn from 20 weeks of `each` patients."""
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(20), each)
    features = some_features(week, ratio=ratio, rng=rng, share_spread=share_spread)
    patients = Patients.of(None, scans=len(week))
    sums = summed(features, patients, week, dependence=Dependence.none(3))
    return week_effects(sums, layout=LAYOUT, traces=TRACES, leverages=np.zeros(3), null=null)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.3])
def test_the_estimated_ratio_is_near_the_true_one_and_rather_above_it(
    ratio: float, null: NullTable
) -> None:
    estimates = np.array(
        [effects_of(ratio, seed=seed, null=null).ratios[:2] for seed in range(150)]
    )
    spread = estimates.std(axis=0)
    # One standard error above, itself estimated from 20 weeks.
    above = (estimates.mean(axis=0) - ratio) / spread
    assert np.all((above > 0.6) & (above < 1.5))
    assert np.all((estimates >= ratio).mean(axis=0) > 0.7)


def test_cells_that_vary_get_a_ratio_each_near_the_true_one(null: NullTable) -> None:
    spread = 0.3
    rng = np.random.default_rng(9)
    shares = SHARES * np.exp(spread * rng.normal(size=(20_000, 4)))
    shares /= shares.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    true = shares.var(axis=0) / (mean * (1 - mean))
    estimates = np.array(
        [
            effects_of(0.0, seed=seed, null=null, share_spread=spread, each=100).feature_ratios
            for seed in range(60)
        ]
    )[:, 8:]
    above = (estimates.mean(axis=0) - true) / estimates.std(axis=0)
    assert np.all((above > 0.3) & (above < 1.8))


def test_whitened_scans_lie_closer_and_their_ratio_is_brought_back(null: NullTable) -> None:
    rng = np.random.default_rng(1)
    week = np.repeat(np.arange(12), 30)
    features = some_features(week, ratio=0.2, rng=rng)
    sums = summed(features, Patients.of(None, scans=360), week)

    def ratios(*leverages: float) -> np.ndarray:
        return week_effects(
            sums, layout=LAYOUT, traces=TRACES, leverages=np.array(leverages), null=null
        ).ratios

    plain = ratios(0.0, 0.0, 0.0)
    assert ratios(0.1, 0.4, 0.0)[:2] == pytest.approx(plain[:2] / [0.81, 0.36])
    # No more than half is believed to be lost, where there are more directions than patients.
    assert ratios(2.0, 0.5, 0.0)[:2] == pytest.approx(plain[:2] / 0.25)


def test_weeks_of_too_few_patients_for_a_member_are_not_heard(null: NullTable) -> None:
    rng = np.random.default_rng(2)
    week = np.r_[np.repeat(np.arange(9), 30), np.repeat([9, 10], [4, 30])]
    features = some_features(week, ratio=0.0, rng=rng)
    features[week == 9] += 50.0
    patients = Patients.of(None, scans=len(week))
    sums = summed(features, patients, week, dependence=Dependence.none(3))
    # The last week's scans all shaped the second member.
    sums.counts[10, 1] = 0.0
    effects = week_effects(sums, layout=LAYOUT, traces=TRACES, leverages=np.zeros(3), null=null)
    assert effects.weeks == 9


def test_a_week_without_a_scan_that_counts_divides_by_nothing(null: NullTable) -> None:
    rng = np.random.default_rng(3)
    week = np.repeat(np.arange(10), 30)
    features = some_features(week, ratio=0.0, rng=rng)
    sums = WeekSums.empty(12, LAYOUT)
    sums.add(
        features,
        Patients.of(None, scans=300),
        week,
        dependence=Dependence.none(3),
        layout=LAYOUT,
        counted=EVERYWHERE,
    )
    effects = week_effects(sums, layout=LAYOUT, traces=TRACES, leverages=np.zeros(3), null=null)
    assert effects.weeks == 10
    assert np.isfinite(effects.ratios).all()
    assert np.isfinite(effects.feature_ratios).all()
    assert np.isfinite(effects.inflations).all()
