"""Whether a mean fell, asked anew with every value: a test that may be stopped at any time.

Someone who believes that a mean is below m stakes part of a fortune on each value in turn and
wins l (m - x), for values x in [0, 1] and 0 <= l <= 1 / (1 - m). Where the mean of what comes
next is at least m, the fortune is expected not to grow, however the bets are chosen and
whenever one looks; that it ever grows to 1 / alpha has then a chance of at most alpha (Ville's
inequality; Waudby-Smith and Ramdas 2024, JRSS B 86:1-27, section 4). The fortune is spread over
several l, which together do about as well as the best of them; for zeros and ones each l is a
likelihood ratio.

The mean before is itself an estimate. Let z be its standard normal deviate if the mean before
had been mu. Then exp(t z - t^2 / 2) is expected to be 1, too, for any t, and its product with
the fortune made against mu less the margin never to grow. What is told is the least product
over every mu: evidence that the mean fell by more than the margin whatever it was before.

An area under a ROC curve is no mean of single patients. Its estimates after more and more of
them, less the true area and times their information 1 / se^2, move like a Brownian motion in
the time of that information, once there are enough patients; the fortune is then
exp(d b - d^2 i / 2), for b the information i times how far the area lies below m, spread over
falls d (Robbins 1970, Annals of Mathematical Statistics 41:1397-1409; for estimates that are
only asymptotically normal Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Annals of
Statistics 52:2613-2640).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.embeddings import Floats
from monitor.statistics.performance.discrimination import Area
from monitor.statistics.performance.independent_differences import Bounded
from registry.errors import BadInputError, InsufficientDataError

#: Parts of the largest stake that a fortune is spread over, equally.
_STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9)
#: Deviates of the mean before that are reckoned with: beyond them lie less than 4 in 100,000.
_DEVIATES = np.linspace(-4.0, 8.0, 121)
#: t above; each pays best for the mean before being t standard errors lower than estimated.
_TILTS = (1.0, 2.0, 3.0)
#: Falls of an area beyond the margin that a fortune is spread over, equally.
_FALLS = (0.02, 0.04, 0.08, 0.16)
#: Below it no mean can lie.
_LEAST_MEAN = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialFall:
    """What values in order say of a fall beyond a margin."""

    before: float
    #: by all values
    after: float
    #: or patients of an area
    values: int
    #: the largest so far, natural logarithm
    log_evidence: float

    @property
    def p_value(self) -> float:
        """Valid at any time: the chance that so much evidence would ever be seen by chance."""
        return min(1.0, math.exp(-self.log_evidence))


def fall_in_sequence(
    values: npt.ArrayLike, before: Bounded, *, margin: float
) -> SequentialFall:
    """Test whether the mean of values is below the mean before by more than a margin.

    Parameters
    ----------
    values : in [0, 1], in the order in which they became known, one for each patient, shape [n]
    before : the mean before, of other patients
    margin : a fall by up to this is none, in [0, 1)

    Raises
    ------
    BadInputError
        If a value lies outside [0, 1] or the margin outside [0, 1).
    InsufficientDataError
        If there is no value.
    """
    seen = np.asarray(values, dtype=np.float64)
    if seen.ndim != 1 or not ((seen >= 0.0) & (seen <= 1.0)).all():
        raise BadInputError("values to bet on must be one number in [0, 1] for each patient")
    if not 0.0 <= margin < 1.0:
        raise BadInputError(f"a margin lies between 0 and 1, got {margin}")
    if len(seen) == 0:
        raise InsufficientDataError(what="values to bet on", needed=1, got=0)
    fortunes = log_fortune(seen, _means_before(before) - margin)
    return SequentialFall(
        before=before.estimate,
        after=float(seen.mean()),
        values=len(seen),
        log_evidence=_evidence(fortunes),
    )


def area_fall_in_sequence(
    areas: Sequence[Area], before: Area, *, margin: float
) -> SequentialFall:
    """Test whether an area is below the area before by more than a margin.

    Parameters
    ----------
    areas : after more and more patients, in the order in which they became known; the first
        after enough of them for a normal interval
    before : the area before, of other patients
    margin : a fall by up to this is none, in [0, 1)

    Raises
    ------
    BadInputError
        If the margin lies outside [0, 1).
    InsufficientDataError
        If there is no area.
    """
    if not 0.0 <= margin < 1.0:
        raise BadInputError(f"a margin lies between 0 and 1, got {margin}")
    if not areas:
        raise InsufficientDataError(what="areas to bet on", needed=1, got=0)
    # An area of 1 without an error is no evidence of a fall, and has no information to tell.
    known = [area for area in areas if area.standard_error > 0.0]
    information = np.array([area.standard_error**-2.0 for area in known])[:, None]
    estimates = np.array([area.estimate for area in known])[:, None]
    below = (_means_before(before) - margin - estimates) * information
    fortunes = [fall * below - fall**2 * information / 2.0 for fall in _FALLS]
    spread = np.logaddexp.reduce(fortunes) - math.log(len(_FALLS))
    return SequentialFall(
        before=before.estimate,
        after=areas[-1].estimate,
        values=areas[-1].patients,
        log_evidence=_evidence(spread) if known else 0.0,
    )


def _means_before(before: Bounded) -> Floats:
    """Return the mean before that goes with each of the deviates."""
    return np.array([_mean_at(before, deviate) for deviate in _DEVIATES])


def _evidence(fortunes: Floats) -> float:
    """Return the largest evidence so far, of log fortunes [n, deviates] against each mean."""
    tilted = [tilt * _DEVIATES - tilt**2 / 2.0 for tilt in _TILTS]
    of_reference = np.logaddexp.reduce(tilted) - math.log(len(_TILTS))
    return max(0.0, float((fortunes + of_reference).min(axis=1).max()))


def _mean_at(before: Bounded, deviate: float) -> float:
    """Return the mean from which the estimate before would lie so many sd above."""
    low, high = before.bounds(abs(deviate))
    return low if deviate > 0.0 else high


def log_fortune(values: Floats, means: Floats) -> Floats:
    """Return the logarithm of the fortune after each value, from 1, [n, M].

    Parameters
    ----------
    values : in [0, 1], shape [n]
    means : that the mean is at least this much is bet against, shape [M]; against a mean of
        0 or less nothing can be won
    """
    against = np.clip(means, _LEAST_MEAN, 1.0 - _LEAST_MEAN)
    fortunes = np.full((len(values), len(means)), -np.inf)
    for part in _STAKES:
        stake = part / (1.0 - against)
        won = np.cumsum(np.log1p(stake * (against - values[:, None])), axis=0)
        fortunes = np.logaddexp(fortunes, won)
    fortunes -= math.log(len(_STAKES))
    fortunes[:, means <= _LEAST_MEAN] = 0.0
    return fortunes
