from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearson3

from monitor.statistics.combination import Tails, evidence, exceedance


def test_tails_are_pearson_laws_with_the_draws_moments() -> None:
    draws = np.random.default_rng(1).chisquare([3.0, 40.0], size=(20_000, 2))
    tails = Tails.of(draws)
    for g in range(2):
        law = pearson3(tails.skewnesses[g], loc=tails.means[g], scale=tails.deviations[g])
        for value in (1.0, 10.0, 60.0):
            statistic = np.full(2, value)
            assert tails.log_p(statistic)[g] == pytest.approx(law.logsf(value), rel=1e-6)


def test_a_tail_below_the_laws_support_is_certain() -> None:
    tails = Tails(means=np.zeros(1), deviations=np.ones(1), skewnesses=np.full(1, 2.0))
    assert tails.log_p(np.array([-5.0]))[0] == 0.0


def test_smooth_tails_reach_beyond_the_draws_without_ties() -> None:
    tails = Tails.of(np.random.default_rng(2).chisquare(5.0, size=(999, 1)))
    beyond = tails.log_p(np.array([[60.0], [61.0]]))[:, 0]
    assert beyond[1] < beyond[0] < np.log(1e-6)


def test_members_without_a_say_are_not_heard() -> None:
    log_p = np.log(np.array([0.5, 1e-9]))
    assert evidence(log_p, np.array([2.0, 0.0])) == pytest.approx(np.log(2.0))


def test_evidence_is_the_weighted_mean_of_inverse_p_values() -> None:
    p, w = np.array([0.02, 0.3, 0.7]), np.array([1.0, 2.0, 0.5])
    assert evidence(np.log(p), w) == pytest.approx(np.log((w / p).sum() / w.sum()))


def test_an_exceedance_counts_the_value_itself_and_is_never_zero() -> None:
    draws = np.arange(9.0)
    assert exceedance(draws, 100.0) == pytest.approx(0.1)
    assert exceedance(draws, 8.0) == pytest.approx(0.2)
    assert exceedance(draws, -1.0) == pytest.approx(1.0)
