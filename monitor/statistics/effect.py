"""How large a shift is, and how small a one a window could have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammainccinv, ndtri

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A length, with its interval of 95 %."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"not an interval around a length: {self}")


def shift_length(squared: float, *, linear_variance: float, null_variance: float) -> Shift:
    """Return the length behind an unbiased squared length, with an interval.

    The variance of a U-statistic is 4 d'Vd + 2 tr(V^2), V the covariance of the difference
    of means and d the true shift (Hoeffding 1948). `linear_variance` is d'Vd along the
    difference that was seen, which holds tr(V^2) more than along d; so the sum is
    4 d'Vd - 2 tr(V^2), and never less than its value without a shift. The interval is the
    normal one for the squared length, and its ends' roots.

    Parameters
    ----------
    squared : unbiased squared length; may be negative
    linear_variance : variance of the projection on the observed difference of means
    null_variance : variance of `squared` without a shift, 2 tr(V^2)
    """
    variance = max(4.0 * linear_variance - null_variance, null_variance)
    reach = float(ndtri(0.5 + _CONFIDENCE / 2)) * float(np.sqrt(variance))
    value, low, high = (
        float(np.sqrt(max(end, 0.0))) for end in (squared, squared - reach, squared + reach)
    )
    return Shift(value=value, low=low, high=high)


def smallest_shift(
    *,
    alpha: float,
    power: float,
    inverse_size: float,
    directions: int,
    deviation: float,
    skewness: float,
) -> float:
    """Return the length of a shift that a test of level alpha finds with this power.

    The test is a member's T for whitened directions, under its Pearson III null of this
    deviation and (positive) skewness. A shift of length s (in standard deviations)
    has E T = s^2 / (p i) and adds 4 s^2 / (p^2 i) to its variance, with i = 1/n + 1/N and p
    directions.
    """
    # A Pearson III variable is a gamma variable, moved and scaled.
    shape = 4.0 / skewness**2
    excess = deviation * (float(gammainccinv(shape, alpha)) - shape) / np.sqrt(shape)
    quantile = float(ndtri(power))
    # Solve g - excess = quantile sqrt(deviation^2 + 4 g / p) for g = E T, the excess being
    # that of the threshold over the mean.
    linear = 2.0 * excess + 4.0 * quantile**2 / directions
    constant = excess**2 - (quantile * deviation) ** 2
    gain = 0.5 * (linear + np.sqrt(max(linear**2 - 4.0 * constant, 0.0)))
    return float(np.sqrt(gain * directions * inverse_size))
