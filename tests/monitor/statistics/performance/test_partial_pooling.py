import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import norm
from statsmodels.stats.meta_analysis import combine_effects

from monitor.statistics.performance.partial_pooling import Estimated, pool
from registry.errors import BadInputError, InsufficientDataError

#: Coaching in eight schools (Rubin 1981; Gelman et al. 2013, table 5.2).
EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def _estimates(values, errors) -> list[Estimated]:
    return [
        Estimated(estimate=value, standard_error=error)
        for value, error in zip(values, errors, strict=True)
    ]


def test_eight_equal_schools_are_pooled_to_the_published_mean() -> None:
    # Gelman et al. (2013), section 5.5: the pooled estimate is 7.7, its standard error 4.1.
    pooled = pool(_estimates(EFFECTS, ERRORS), scale=1e-3, level=0.95)
    for school in pooled.subgroups:
        assert school.estimate == pytest.approx(7.7, abs=0.05)
        half = (school.interval.high - school.interval.low) / 2 / norm.ppf(0.975)
        assert half == pytest.approx(4.1, abs=0.05)


def test_eight_unlike_schools_keep_their_own_estimates() -> None:
    pooled = pool(_estimates(EFFECTS, np.array(ERRORS) / 1e3), scale=100.0, level=0.95)
    for school, effect in zip(pooled.subgroups, EFFECTS, strict=True):
        assert school.estimate == pytest.approx(effect, abs=1e-3)


def test_the_posterior_is_that_of_the_model_integrated_numerically() -> None:
    values, errors, scale = (0.02, -0.05, 0.01), (0.03, 0.05, 0.04), 0.04

    mu = np.linspace(-0.4, 0.4, 1601)[:, None]
    tau = np.linspace(1e-6, 0.24, 1201)[None, :]
    joint = norm.pdf(tau, 0.0, scale)
    for value, error in zip(values, errors, strict=True):
        joint = joint * norm.pdf(value, mu, np.hypot(error, tau))
    spread = 1 / (1 / errors[1] ** 2 + 1 / tau**2)
    centre = spread * (values[1] / errors[1] ** 2 + mu / tau**2)

    def mean(of: np.ndarray | float) -> float:
        whole, part = (
            trapezoid(trapezoid(joint * one, mu, axis=0), tau[0]) for one in (1.0, of)
        )
        return float(part / whole)

    pooled = pool(_estimates(values, errors), scale=scale, level=0.9)
    below = mean(norm.cdf(0.0, centre, np.sqrt(spread)))
    assert pooled.subgroups[1].chance_below(0.0) == pytest.approx(below, abs=2e-5)
    assert pooled.subgroups[1].estimate == pytest.approx(mean(centre), abs=2e-6)
    assert pooled.mean == pytest.approx(mean(mu), abs=2e-6)
    assert pooled.spread == pytest.approx(mean(tau), rel=1e-4)


def test_heterogeneity_is_cochrans() -> None:
    pooled = pool(_estimates(EFFECTS, ERRORS), scale=10.0, level=0.95)
    expected = combine_effects(np.array(EFFECTS), np.array(ERRORS) ** 2)
    assert pooled.heterogeneity.q == pytest.approx(expected.q, rel=1e-12)
    assert pooled.heterogeneity.degrees == 7
    assert pooled.heterogeneity.p_value == pytest.approx(
        expected.test_homogeneity().pvalue, rel=1e-9
    )


def test_intervals_are_narrower_than_each_subgroups_own_and_hold_their_level() -> None:
    rng = np.random.default_rng(0)
    errors = np.full(8, 0.06)
    covered, widths = 0, []
    for _ in range(200):
        truths = rng.normal(0.0, 0.03, 8)
        values = rng.normal(truths, errors)
        pooled = pool(_estimates(values, errors), scale=0.05, level=0.9)
        covered += sum(
            truth in one.interval for truth, one in zip(truths, pooled.subgroups, strict=True)
        )
        widths += [one.interval.high - one.interval.low for one in pooled.subgroups]
    assert covered / 1600 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 1600)
    assert np.mean(widths) < 0.7 * 2 * norm.ppf(0.95) * 0.06


def test_the_chance_below_a_bound_of_the_interval_is_its_tail() -> None:
    [first, *_] = pool(_estimates(EFFECTS, ERRORS), scale=10.0, level=0.9).subgroups
    assert first.chance_below(first.interval.low) == pytest.approx(0.05, abs=1e-9)
    assert first.chance_below(first.interval.high) == pytest.approx(0.95, abs=1e-9)


def test_one_subgroup_and_impossible_errors_are_refused() -> None:
    with pytest.raises(InsufficientDataError, match="subgroups to pool"):
        pool(_estimates((0.1,), (0.1,)), scale=0.1, level=0.9)
    with pytest.raises(BadInputError, match="above 0"):
        pool(_estimates((0.1, 0.2), (0.1, 0.0)), scale=0.1, level=0.9)
    with pytest.raises(BadInputError, match="above 0"):
        pool(_estimates((0.1, 0.2), (0.1, 0.1)), scale=0.0, level=0.9)
