from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monitor.statistics.arrivals.counts import (
    clumps_per_arrival,
    log_at_least,
    log_at_most,
    log_none,
    log_probability,
)

COUNTS = np.arange(40)


@pytest.mark.parametrize(
    ("mean", "burst", "spread"),
    [(0.3, 1.2, 0.0), (5.0, 1.5, 0.0), (12.0, 1.0, 0.1), (30.0, 2.5, 0.04)],
)
def test_probabilities_and_tails_are_those_of_a_negative_binomial(
    mean: float, burst: float, spread: float
) -> None:
    variance = burst * mean + spread * mean**2
    oracle = stats.nbinom(mean**2 / (variance - mean), mean / variance)
    assert oracle.mean() == pytest.approx(mean)
    assert oracle.var() == pytest.approx(variance)
    found = [function(COUNTS, mean, burst, spread) for function in TAILS]
    expected = [oracle.logpmf(COUNTS), oracle.logcdf(COUNTS), oracle.logsf(COUNTS - 1)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert log_none(mean, burst, spread) == pytest.approx(oracle.logpmf(0))


TAILS = (log_probability, log_at_most, log_at_least)


def test_without_burst_and_spread_counts_are_poisson() -> None:
    oracle = stats.poisson(7.0)
    expected = [oracle.logpmf(COUNTS), oracle.logcdf(COUNTS), oracle.logsf(COUNTS - 1)]
    for function, other in zip(TAILS, expected, strict=True):
        np.testing.assert_allclose(function(COUNTS, 7.0, 1.0, 0.0), other, rtol=1e-3)


def test_a_burst_alone_is_a_poisson_number_of_logarithmic_clumps() -> None:
    # Quenouille: with p = 1 - 1/b clumps have mean (b - 1) / log b, and spans add up.
    rng = np.random.default_rng(3)
    mean, burst = 6.0, 2.0
    clumps = rng.poisson(mean * float(clumps_per_arrival(burst)), size=40_000)
    sizes = rng.logseries(1 - 1 / burst, size=clumps.sum())
    counts = np.add.reduceat(np.append(sizes, 0), np.concatenate([[0], clumps.cumsum()[:-1]]))
    counts[clumps == 0] = 0
    for level in (0, 2, 6, 12):
        expected = np.exp(log_at_most(level, mean, burst, 0.0))
        error = np.sqrt(expected * (1 - expected) / len(counts))
        assert np.mean(counts <= level) == pytest.approx(expected, abs=4 * error)
    assert log_none(3.0, burst, 0.0) * 2 == pytest.approx(log_none(6.0, burst, 0.0))


def test_a_spread_alone_is_a_gamma_mixture() -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(9.0 * rng.gamma(1 / 0.2, 0.2, size=40_000))
    for level in (1, 4, 9, 20):
        expected = np.exp(log_at_most(level, 9.0, 1.0, 0.2))
        error = np.sqrt(expected * (1 - expected) / len(counts))
        assert np.mean(counts <= level) == pytest.approx(expected, abs=4 * error)


def test_where_nothing_is_expected_nothing_is_no_news_and_something_is() -> None:
    assert log_at_most(0, 0.0, 1.0, 0.0) == pytest.approx(0.0, abs=1e-6)
    assert log_at_least(0, 0.0, 1.0, 0.0) == 0.0
    assert log_at_least(3, 0.0, 1.0, 0.0) < -30
