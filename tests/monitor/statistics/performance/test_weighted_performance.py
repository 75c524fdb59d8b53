"""Every estimate with unequal chances of inclusion: against oracles, and what is true of all."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.api import GLM, families
from statsmodels.stats.weightstats import DescrStatsW

from monitor.statistics.performance.calibration import (
    calibration_line,
    expected_calibration_error,
    reliability_curve,
)
from monitor.statistics.performance.discrimination import (
    bootstrap_auc_difference,
    compare_aucs,
    estimate_auc,
)
from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.proportions import proportion, wilson
from registry.errors import BadInputError


class Drawn:
    """Two models on labelled scans, some labelled five times as likely as others."""

    def __init__(self, seed: int = 0, scans: int = 240, scans_of_a_patient: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.patients = np.arange(scans) // scans_of_a_patient
        self.truth = rng.random(scans) < 0.4
        self.first = np.round(rng.normal(size=scans) + 1.5 * self.truth - 0.5, 1)
        self.second = np.round(0.8 * self.first + 0.6 * rng.normal(size=scans), 1)
        self.weights = rng.choice([1.0, 5.0], size=self.patients.max() + 1)[self.patients]

    def repeated(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Return arrays in which each scan stands as often as it weighs."""
        return [np.repeat(array, self.weights.astype(int)) for array in arrays]


@pytest.fixture
def drawn() -> Drawn:
    return Drawn()


def test_a_weight_counts_a_scan_as_often_as_if_it_stood_there_so_often(drawn: Drawn) -> None:
    weights, level = drawn.weights, 0.9
    truth, first, second = drawn.repeated(drawn.truth, drawn.first, drawn.second)
    share = proportion(drawn.first > 0, weights=weights, level=level)
    assert share.estimate == pytest.approx(proportion(first > 0, level=level).estimate)
    rates = paired_difference(drawn.first > 0, drawn.second > 0, weights=weights, level=level)
    expected = paired_difference(first > 0, second > 0, level=level)
    assert rates.estimate == pytest.approx(expected.estimate)
    assert (rates.first, rates.second) == pytest.approx((expected.first, expected.second))
    areas = compare_aucs(drawn.first, drawn.second, drawn.truth, weights=weights, level=level)
    assert areas.first == pytest.approx(roc_auc_score(truth, first))
    assert areas.first == pytest.approx(
        roc_auc_score(drawn.truth, drawn.first, sample_weight=weights)
    )
    assert areas.second == pytest.approx(roc_auc_score(truth, second))
    line = calibration_line(expit(drawn.first), drawn.truth, weights=weights, level=level)
    plain = calibration_line(expit(first), truth, level=level)
    assert line.intercept.estimate == pytest.approx(plain.intercept.estimate, abs=1e-9)
    assert line.slope.estimate == pytest.approx(plain.slope.estimate, abs=1e-9)


def test_the_variance_of_a_proportion_is_the_jackknifes(drawn: Drawn) -> None:
    happened, weights = (drawn.first > 0).astype(float), drawn.weights
    n = len(happened)
    left_out = np.array(
        [np.average(np.delete(happened, i), weights=np.delete(weights, i)) for i in range(n)]
    )
    share = np.average(happened, weights=weights)
    jackknife = (n - 1) / n * np.sum((left_out - share) ** 2)
    simple = DescrStatsW(happened, weights=weights).var / (n - 1)
    found = proportion(happened, weights=weights, level=0.9)
    kish = n * np.sum(weights**2) / weights.sum() ** 2
    assert found.design_effect == pytest.approx(max(kish, jackknife / simple), rel=1e-9)
    effective = n / found.design_effect
    assert found.interval.low == pytest.approx(
        wilson(share * effective, effective, level=0.9).low
    )


def test_the_variance_of_an_area_is_about_the_jackknifes_and_the_bootstraps() -> None:
    drawn = Drawn(seed=1, scans=300, scans_of_a_patient=3)
    found = compare_aucs(
        drawn.first,
        drawn.second,
        drawn.truth,
        drawn.patients,
        weights=drawn.weights,
        level=0.95,
    )
    left_out = []
    for patient in range(drawn.patients.max() + 1):
        rows = drawn.patients != patient
        first, second = (
            roc_auc_score(drawn.truth[rows], scores[rows], sample_weight=drawn.weights[rows])
            for scores in (drawn.first, drawn.second)
        )
        left_out.append(second - first)
    count = len(left_out)
    jackknife = np.sqrt(
        (count - 1) / count * np.sum((np.array(left_out) - found.estimate) ** 2)
    )
    assert found.standard_error == pytest.approx(jackknife, rel=0.03)
    interval = bootstrap_auc_difference(
        drawn.first,
        drawn.second,
        drawn.truth,
        drawn.patients,
        weights=drawn.weights,
        level=0.95,
        resamples=400,
        seed=0,
    )
    width = found.interval.high - found.interval.low
    assert interval.high - interval.low == pytest.approx(width, rel=0.15)


def test_the_errors_of_a_calibration_are_the_jackknifes_by_patient() -> None:
    drawn = Drawn(seed=4, scans=300, scans_of_a_patient=3)
    design = np.stack([np.ones_like(drawn.first), drawn.first], axis=1)

    def slope(rows: np.ndarray) -> float:
        fitted = GLM(
            drawn.truth[rows].astype(float),
            design[rows],
            family=families.Binomial(),
            freq_weights=drawn.weights[rows],
        ).fit(tol=1e-14)
        return float(fitted.params[1])

    line = calibration_line(
        expit(drawn.first), drawn.truth, drawn.patients, weights=drawn.weights, level=0.95
    )
    everybody = np.ones(300, dtype=bool)
    assert line.slope.estimate == pytest.approx(slope(everybody), rel=1e-7)
    left_out = np.array([slope(drawn.patients != patient) for patient in range(100)])
    error = np.sqrt(99 / 100 * np.sum((left_out - line.slope.estimate) ** 2))
    half = norm.ppf(0.975) * error
    assert line.slope.interval.high - line.slope.estimate == pytest.approx(half, rel=0.03)


def test_curve_and_calibration_error_are_by_weight(drawn: Drawn) -> None:
    probabilities = expit(drawn.first)
    curve = reliability_curve(
        probabilities, drawn.truth, weights=drawn.weights, bins=5, level=0.9
    )
    edges = np.array([one.observed.scans for one in curve]).cumsum()
    order = np.argsort(probabilities, kind="stable")
    gaps, total = 0.0, drawn.weights.sum()
    for point, rows in zip(curve, np.split(order, edges[:-1]), strict=True):
        weights = drawn.weights[rows]
        assert point.predicted == pytest.approx(
            np.average(probabilities[rows], weights=weights)
        )
        assert point.observed.estimate == pytest.approx(
            np.average(drawn.truth[rows], weights=weights)
        )
        gaps += weights.sum() / total * abs(point.predicted - point.observed.estimate)
    error = expected_calibration_error(
        probabilities,
        drawn.truth,
        weights=drawn.weights,
        bins=5,
        level=0.9,
        resamples=50,
        seed=0,
    )
    assert error.estimate == pytest.approx(gaps)


@pytest.mark.parametrize("scans_of_a_patient", [1, 3])
def test_equal_weights_change_no_digit(scans_of_a_patient: int) -> None:
    drawn = Drawn(seed=2, scans_of_a_patient=scans_of_a_patient)
    probabilities, patients = expit(drawn.first), drawn.patients
    calls = [
        lambda **w: proportion(drawn.first > 0, patients, level=0.9, **w),
        lambda **w: paired_difference(
            drawn.first > 0, drawn.second > 0, patients, level=0.9, **w
        ),
        lambda **w: estimate_auc(drawn.first, drawn.truth, patients, level=0.9, **w),
        lambda **w: compare_aucs(
            drawn.first, drawn.second, drawn.truth, patients, level=0.9, **w
        ),
        lambda **w: calibration_line(probabilities, drawn.truth, patients, level=0.9, **w),
        lambda **w: reliability_curve(
            probabilities, drawn.truth, patients, bins=5, level=0.9, **w
        ),
        lambda **w: expected_calibration_error(
            probabilities, drawn.truth, patients, bins=5, level=0.9, resamples=20, seed=0, **w
        ),
    ]
    for call in calls:
        assert call(weights=np.full(240, 0.7)) == call()


def test_the_unit_of_weights_does_not_matter(drawn: Drawn) -> None:
    areas = [
        compare_aucs(
            drawn.first, drawn.second, drawn.truth, weights=unit * drawn.weights, level=0.9
        )
        for unit in (1.0, 12.5)
    ]
    assert areas[0].interval.low == pytest.approx(areas[1].interval.low, rel=1e-12)


def test_weighted_estimates_are_of_all_scans_and_cover_where_plain_ones_miss() -> None:
    rng = np.random.default_rng(3)
    true_share, true_area = float(norm.cdf(1.3)), float(norm.cdf(2.3 / np.sqrt(2)))
    covered, weighted, plain = np.zeros(2), np.zeros(2), np.zeros(2)
    rounds = 150
    for _ in range(rounds):
        truth = rng.random(2500) < 0.4
        scores = np.where(truth, 1.3, -1.0) + rng.normal(size=2500)
        chance = np.where(np.abs(scores) < 0.7, 0.5, 0.15)
        rows = rng.random(2500) < chance
        truth, scores, weights = truth[rows], scores[rows], 1 / chance[rows]
        share = proportion(scores[truth] > 0, weights=weights[truth], level=0.9)
        area = estimate_auc(scores, truth, weights=weights, level=0.9)
        covered += [true_share in share.interval, true_area in area.interval]
        weighted += [share.estimate - true_share, area.estimate - true_area]
        plain += [
            (scores[truth] > 0).mean() - true_share,
            estimate_auc(scores, truth, level=0.9).estimate - true_area,
        ]
    assert (covered / rounds >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / rounds)).all()
    assert (np.abs(weighted / rounds) < 0.006).all()
    assert (plain / rounds < -0.05).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0, 1.0], [1.0, np.nan, 1.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(BadInputError, match="3 finite numbers above 0"):
        proportion([1, 0, 1], weights=weights, level=0.9)
