"""Differences of several subgroups, each estimated with a little help from the others.

The estimate of subgroup g scatters around its own true difference with a standard error that
is taken as known, and the true differences scatter around a common mean:

    d_g ~ N(theta_g, s_g^2),    theta_g ~ N(mu, tau^2)

(Gelman et al. 2013, *Bayesian Data Analysis*, 3rd ed., section 5.4, the normal hierarchical
model). The mean has a flat prior. tau has a half-normal one, whose scale the caller states in
the unit of the differences; it is summed over a grid, so that what is said of a subgroup
includes that tau is not known, which the plug-in estimates of empirical Bayes leave out. No
chance is involved: equal input gives equal output.

It narrows intervals by assuming that subgroups are exchangeable. Where one of them is not, the
model draws it to the others; nobody should take a pooled interval alone for evidence that a
single subgroup is unharmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtrc, logsumexp, ndtr

from monitor.statistics.embeddings import Floats
from monitor.statistics.performance.proportions import Interval
from registry.errors import BadInputError, InsufficientDataError

#: Values of tau that are summed over, and up to how many scales of its prior: less than 2 in a
#: million lie beyond.
_VALUES, _SCALES = 200, 4.8
#: Standard deviations around the outermost mean between which a quantile is looked for.
_REACH = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """One subgroup's own estimate."""

    estimate: float
    standard_error: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PooledDifference:
    """What all subgroups together say of one: a mixture of normals over tau."""

    #: [T] chance of each tau, mean and standard deviation under it
    chances: Floats
    means: Floats
    deviations: Floats
    interval: Interval

    @property
    def estimate(self) -> float:
        """The posterior mean."""
        return float(self.chances @ self.means)

    def chance_below(self, value: float) -> float:
        """Return the posterior chance that the true difference is at most `value`."""
        return float(self.chances @ ndtr((value - self.means) / self.deviations))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heterogeneity:
    """Whether subgroups differ by more than their standard errors explain."""

    #: Cochran's (1954, Biometrics 10:101-129)
    q: float
    degrees: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialPooling:
    """Several subgroups, pooled."""

    subgroups: tuple[PooledDifference, ...]
    #: posterior mean of the common mean, and of tau
    mean: float
    spread: float
    heterogeneity: Heterogeneity


def pool(estimates: Sequence[Estimated], *, scale: float, level: float) -> PartialPooling:
    """Return each subgroup's pooled difference, in the given order.

    Parameters
    ----------
    estimates : of disjoint subgroups, at least two
    scale : of the half-normal prior of tau, in units of the estimates
    level : confidence of the intervals

    Raises
    ------
    InsufficientDataError
        If there are fewer than two subgroups.
    BadInputError
        If a standard error or the scale is not positive.
    """
    if len(estimates) < 2:
        raise InsufficientDataError(what="subgroups to pool", needed=2, got=len(estimates))
    values = np.array([one.estimate for one in estimates])
    errors = np.array([one.standard_error for one in estimates])
    if not (errors > 0.0).all() or not scale > 0.0:
        raise BadInputError("pooling needs standard errors and a scale above 0")
    tau = (np.arange(_VALUES) + 0.5) * (_SCALES * scale / _VALUES)
    # [T, G], and sums over subgroups [T].
    precision = 1.0 / (errors**2 + tau[:, None] ** 2)
    total = precision.sum(axis=1)
    mean = precision @ values / total
    misfit = (precision * (values - mean[:, None]) ** 2).sum(axis=1)
    log_chance = (
        -0.5 * (tau / scale) ** 2
        - 0.5 * np.log(total)
        + 0.5 * np.log(precision).sum(axis=1)
        - 0.5 * misfit
    )
    chances = np.exp(log_chance - logsumexp(log_chance))
    # The share by which a subgroup is drawn to the common mean, which is itself uncertain.
    drawn = errors**2 * precision
    means = (1.0 - drawn) * values + drawn * mean[:, None]
    variances = drawn * tau[:, None] ** 2 + drawn**2 / total[:, None]
    deviations = np.sqrt(variances)
    return PartialPooling(
        subgroups=tuple(
            _difference(chances, means[:, group], deviations[:, group], level=level)
            for group in range(len(values))
        ),
        mean=float(chances @ mean),
        spread=float(chances @ tau),
        heterogeneity=_heterogeneity(values, errors),
    )


def _difference(
    chances: Floats, means: Floats, deviations: Floats, *, level: float
) -> PooledDifference:
    tail = (1.0 - level) / 2.0
    least = float((means - _REACH * deviations).min())
    most = float((means + _REACH * deviations).max())

    def excess(value: float, chance: float) -> float:
        return float(chances @ ndtr((value - means) / deviations)) - chance

    low, high = (
        float(brentq(excess, least, most, args=(chance,), xtol=1e-12))
        for chance in (tail, 1.0 - tail)
    )
    return PooledDifference(
        chances=chances,
        means=means,
        deviations=deviations,
        interval=Interval(low=low, high=high, level=level),
    )


def _heterogeneity(values: Floats, errors: Floats) -> Heterogeneity:
    weights = errors**-2.0
    mean = weights @ values / weights.sum()
    q = float(weights @ (values - mean) ** 2)
    degrees = len(values) - 1
    return Heterogeneity(q=q, degrees=degrees, p_value=float(chdtrc(degrees, q)))
