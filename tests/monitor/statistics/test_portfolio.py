from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chi2

from monitor.statistics.cross_fitting import fit_portfolio
from monitor.statistics.design import MEAN_SHIFT
from monitor.statistics.patients import Patients
from monitor.statistics.portfolio import Comparison, Portfolio, all_features
from monitor.statistics.two_sample import Layout, growths
from monitor.statistics.verdicts import Verdict

DIMENSION = 8
SCALES = 1.0 / np.sqrt(np.arange(1, DIMENSION + 1))
CORNERS = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])


def scans(n: int, *, seed: int, rare: float = 0.08, shift: float = 0.0) -> np.ndarray:
    """Four kinds of scans, the last of the given share."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, size=n, p=[0.4, 0.3, 0.3 - rare, rare])
    x = 0.3 * rng.normal(size=(n, DIMENSION)) + shift
    x[:, :3] += CORNERS[kind]
    return (x * SCALES).astype(np.float32)


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    week = np.repeat(np.arange(10), 30)
    return fit_portfolio(scans(300, seed=1), Patients.of(None, scans=300), week, seed=4)


@pytest.fixture(scope="module")
def patients() -> Patients:
    """Of 24 scans: one to three each."""
    return Patients.of([0, 0, 0, 1, 1, 2, 2, *range(3, 20)], scans=24)


@pytest.fixture(scope="module")
def comparison(portfolio: Portfolio, patients: Patients) -> Comparison:
    return portfolio.compare(scans(24, seed=2, rare=0.2), patients)


@pytest.fixture(scope="module")
def layout(portfolio: Portfolio) -> Layout:
    return Layout.of(portfolio.members)


def features_of(portfolio: Portfolio, x: np.ndarray) -> np.ndarray:
    at = portfolio.fit.frame.coordinates(x)
    return all_features(portfolio.members, at).astype(np.float64)


def weights_of(portfolio: Portfolio, patients: Patients) -> np.ndarray:
    weights = 1 / (1 + (patients.scans - 1) * portfolio.dependence.pooled)
    return np.asarray(weights[patients.codes])


def test_squared_shifts_are_double_sums_less_the_references_own_error(
    portfolio: Portfolio, patients: Patients, comparison: Comparison, layout: Layout
) -> None:
    features = features_of(portfolio, scans(24, seed=2, rare=0.2)) - portfolio.centre
    weights, codes = weights_of(portfolio, patients), patients.codes
    pairs = [(i, j) for i, j in permutations(range(24), 2) if codes[i] != codes[j]]
    mass = sum(weights[i] * weights[j] for i, j in pairs)
    for g in range(layout.members):
        part = features[:, layout.part(g)]
        total = sum(weights[i] * weights[j] * (part[i] @ part[j]) for i, j in pairs)
        error = portfolio.traces[g] * portfolio.inverse_sizes[g]
        assert comparison.squared_shifts[g] == pytest.approx(
            total / mass - error, rel=1e-3, abs=1e-5
        )


def test_the_squared_shift_of_all_whitened_directions_is_a_classifiers_mean_score(
    portfolio: Portfolio, layout: Layout
) -> None:
    """Each scan is scored by the difference of means of reference and all other scans."""
    x = scans(40, seed=5, shift=0.2)
    alone = Patients.of(None, scans=40)
    g = [member.name for member in portfolio.members].index("whitened-mean-all")
    features = features_of(portfolio, x)[:, layout.part(g)]
    centre = portfolio.centre[layout.part(g)]
    scores = [
        (features[i] - centre) @ (np.delete(features, i, axis=0).mean(axis=0) - centre)
        for i in range(40)
    ]
    shift = portfolio.compare(x, alone).squared_shifts[g]
    error = portfolio.traces[g] * portfolio.inverse_sizes[g]
    assert shift == pytest.approx(np.mean(scores) - error, rel=1e-3)
    assert np.mean(scores) > 5 * error


def test_growths_compare_weighted_shares_with_the_references(
    portfolio: Portfolio, patients: Patients, comparison: Comparison, layout: Layout
) -> None:
    (g,) = comparison.growths
    assert portfolio.members[g].name == "occupancy-peak"
    part = layout.part(g)
    features = features_of(portfolio, scans(24, seed=2, rare=0.2))[:, part]
    weights = weights_of(portfolio, patients)
    shares = np.average(features, axis=0, weights=weights)
    rho = portfolio.dependence.correlations[g]
    mass = patients.scans / (1 + (patients.scans - 1) * portfolio.dependence.pooled)
    variance = (mass**2 * (1 + (patients.scans - 1) * rho) / patients.scans).sum()
    inverse = variance / mass.sum() ** 2
    before = portfolio.centre[part].astype(np.float64)
    growth = growths(shares, inverse, before, portfolio.inverse_sizes[g])
    assert comparison.growths[g] == pytest.approx(growth, abs=1e-5)
    total = inverse + portfolio.inverse_sizes[g]
    assert comparison.statistics[g] == pytest.approx(growth.max() / np.sqrt(total), rel=1e-5)
    assert comparison.lengths[g] == pytest.approx(growth.max(), rel=1e-5)
    assert before.sum() == pytest.approx(1.0, abs=1e-5)


def test_statistics_are_shifts_over_both_inverse_sizes(comparison: Comparison) -> None:
    (peaked,) = comparison.growths
    others = np.arange(len(comparison.statistics)) != peaked
    expected = comparison.squared_shifts / comparison.inverse_sizes
    assert comparison.statistics[others] == pytest.approx(expected[others])
    lengths = np.sqrt(np.maximum(comparison.squared_shifts, 0.0))
    assert comparison.lengths[others] == pytest.approx(lengths[others])


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_weekly_statistics_take_ordinary_weeks_off_the_shift_and_add_them_to_its_error(
    portfolio: Portfolio, comparison: Comparison, layout: Layout, share: float
) -> None:
    assert portfolio.weeks is not None
    members = layout.members
    effects = replace(
        portfolio.weeks,
        ratios=np.linspace(0.0, 0.05, members),
        feature_ratios=np.linspace(0.0, 0.05, int(layout.edges[-1])),
        inflations=np.linspace(1.0, 1.5, members),
    )
    weekly = comparison.weekly_statistics(effects, portfolio.traces, share=share)
    (peaked,) = comparison.growths
    for g in range(members):
        added = share + 1 / 10
        if g == peaked:
            ratios = effects.feature_ratios[layout.part(g)]
            variances = comparison.inverse_sizes[g] + ratios * added
            expected = max(comparison.growths[g] / np.sqrt(variances))
        else:
            beyond = (
                comparison.squared_shifts[g] - effects.ratios[g] * portfolio.traces[g] * added
            )
            error = comparison.inverse_sizes[g] + effects.ratios[g] * added
            expected = beyond / error / effects.inflations[g]
        assert weekly[g] == pytest.approx(expected, rel=1e-9)


def test_weeks_that_do_not_differ_change_no_statistic(
    portfolio: Portfolio, comparison: Comparison, layout: Layout
) -> None:
    assert portfolio.weeks is not None
    still = replace(
        portfolio.weeks,
        ratios=np.zeros(layout.members),
        feature_ratios=np.zeros(int(layout.edges[-1])),
        inflations=np.ones(layout.members),
    )
    weekly = comparison.weekly_statistics(still, portfolio.traces, share=1.0)
    assert weekly == pytest.approx(comparison.statistics)


def check(portfolio: Portfolio, x: np.ndarray, *, week_share: float = 1.0) -> Verdict:
    patients = Patients.of(None, scans=len(x))
    return portfolio.check(x, patients, week_share=week_share, subsampled=False, seed=0)


def test_the_ordinary_effect_is_what_19_of_20_drawn_weeks_stay_below(
    portfolio: Portfolio,
) -> None:
    assert portfolio.weeks is not None
    x = scans(60, seed=3)
    g = [member.name for member in portfolio.members].index(MEAN_SHIFT)
    between = portfolio.weeks.ratios[g] * portfolio.traces[g]
    assert between > 0
    for share in (1.0, 0.25):
        ordinary = check(portfolio, x, week_share=share).ordinary_effect
        # Shifts of weeks along eight directions, each with an equal part of the variance.
        deviation = np.sqrt(between * (share + 0.1) / DIMENSION)
        drawn = np.random.default_rng(0).normal(size=(40_000, DIMENSION)) * deviation
        quantile = np.quantile(np.linalg.norm(drawn, axis=1), 0.95)
        assert ordinary == pytest.approx(quantile, rel=0.02)
        squared = between * (share + 0.1) * chi2.ppf(0.95, DIMENSION) / DIMENSION
        assert ordinary == pytest.approx(np.sqrt(squared))


def test_a_portfolio_that_knows_no_weeks_says_nothing_of_them(portfolio: Portfolio) -> None:
    x = scans(60, seed=3)
    without = replace(portfolio, weeks=None)
    verdict = check(without, x)
    assert (verdict.week_p_value, verdict.ordinary_effect) == (None, None)
    assert verdict.p_value == verdict.alarm_p_value == check(portfolio, x).p_value


def test_a_kind_of_scan_that_grew_is_found_in_its_cell(portfolio: Portfolio) -> None:
    ordinary, grown = (
        check(portfolio, scans(120, seed=6, rare=rare)).detectors for rare in (0.08, 0.28)
    )
    for name in ("occupancy", "occupancy-peak"):
        assert ordinary[name].p_value > 0.05
        assert grown[name].p_value < 0.005


def test_contributions_add_up_to_the_leading_squared_shift(
    portfolio: Portfolio, layout: Layout
) -> None:
    x = scans(60, seed=7, shift=0.3)
    codes = np.repeat(np.arange(30), 2)
    patients = Patients.of(codes, scans=60)
    parts = portfolio.contributions(x, patients)
    verdict = portfolio.check(x, patients, week_share=1.0, subsampled=False, seed=0)
    g = [member.name for member in portfolio.members].index(verdict.leading)
    assert not portfolio.members[g].peaked
    comparison = portfolio.compare(x, patients)
    error = portfolio.traces[g] * portfolio.inverse_sizes[g]
    assert parts.sum() == pytest.approx(comparison.squared_shifts[g] + error, rel=1e-4)


def test_where_the_peak_leads_contributions_are_those_of_the_cell_that_grew(
    portfolio: Portfolio, layout: Layout
) -> None:
    # Which detector leads a window without a shift is chance.
    windows = (scans(40, seed=seed) for seed in range(200))
    x = next(one for one in windows if check(portfolio, one).leading == "occupancy-peak")
    patients = Patients.of(None, scans=40)
    g = [member.name for member in portfolio.members].index("occupancy-peak")
    cell = layout.part(g).start + int(portfolio.compare(x, patients).growths[g].argmax())
    own = features_of(portfolio, x)[:, cell]
    reference = float(portfolio.centre[cell])
    expected = [
        sum((own[i] - reference) * (own[j] - reference) for j in range(40) if j != i)
        / (40 * 39)
        for i in range(40)
    ]
    parts = portfolio.contributions(x, patients)
    assert parts == pytest.approx(np.array(expected), abs=1e-7)
    assert parts[own == 1].min() > 0 > parts[own == 0].max()


def test_outlier_scores_rise_with_the_distance_from_the_centre(portfolio: Portfolio) -> None:
    direction = np.ones(DIMENSION) * SCALES
    away = (np.outer(np.linspace(1.0, 6.0, 20), direction)).astype(np.float32)
    scores = portfolio.outlier_scores(away)
    assert np.all(np.diff(scores) >= 0)
    assert scores[-1] == pytest.approx(300 / 301)


def test_the_largest_window_is_half_of_the_patients_and_no_more_than_a_thousand(
    portfolio: Portfolio,
) -> None:
    assert portfolio.largest_window == 150
    assert replace(portfolio, patients=50_000).largest_window == 1000
