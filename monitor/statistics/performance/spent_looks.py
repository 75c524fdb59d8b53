"""An error rate spent over looks: a comparison that is repeated until a day that is fixed before.

Something in use is compared with an estimate that was made once, and compared again as more
becomes known. The differences D_1, D_2, ... share the estimate, and what is known only grows, so
that Cov(D_j, D_k) = Var(D_k) for j <= k: in the time of their information 1 / Var(D_k) they move
like a Brownian motion, as the looks of a clinical trial do (Jennison and Turnbull 2000, *Group
Sequential Methods with Applications to Clinical Trials*, section 3.1). Each look may so be given
a bound of its own, by what was spent before and what may be spent by now (Lan and DeMets 1983,
Biometrika 70:659-663); when one looks may follow the calendar, since it does not follow what was
seen (Lan and DeMets 1989, Biometrics 45:1017-1020). A p-value of any test that is about normal
stands in for its deviate: the significance level approach (Jennison and Turnbull, section 9.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from monitor.statistics.embeddings import Floats
from registry.errors import BadInputError

#: Information must grow by this share for another look: one that sees hardly more than the look
#: before is the same look.
LEAST_GROWTH = 0.01
#: Deviates that the path is followed within. Below the low end lies less than one in a million.
_LOW, _HIGH = -5.0, 8.0
#: Points of a deviate's grid for each unit; an increment's standard deviation at `LEAST_GROWTH`
#: is a tenth.
_POINTS_A_UNIT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentLook:
    """One look: how much was known, and from which deviate on it would have rejected."""

    #: 1 / variance of the difference, > 0
    information: float
    #: standard normal deviate; infinite where nothing could be spent
    bound: float
    #: of the error rate, by this look and all before it
    spent: float

    def __post_init__(self) -> None:
        if not (self.information > 0.0 and math.isfinite(self.information)):
            raise BadInputError(f"information must be above 0, got {self.information}")


def next_look(before: Sequence[SpentLook], *, information: float, spend: float) -> SpentLook:
    """Return the next look with its bound, so that no more than `spend` is spent by it in all.

    Parameters
    ----------
    before : the looks so far, oldest first, none of which rejected
    information : 1 / variance of the difference now
    spend : one-sided chance of a false rejection that may be spent by now, all looks together

    Raises
    ------
    BadInputError
        If the information has not grown by `LEAST_GROWTH`, or less may be spent than was.
    """
    if before and information < before[-1].information * (1.0 + LEAST_GROWTH):
        raise BadInputError(
            f"information is {information:g} and was {before[-1].information:g}: a look that "
            "knows no more is none"
        )
    spent = before[-1].spent if before else 0.0
    if not 0.0 < spend < 1.0 or spend < spent:
        raise BadInputError(f"{spend:g} may be spent, and {spent:g} was spent before")
    fresh = spend - spent
    bound = math.inf if fresh <= 0.0 else _bound(before, information, fresh)
    return SpentLook(information=information, bound=bound, spent=spend)


def _bound(before: Sequence[SpentLook], information: float, fresh: float) -> float:
    path = _path(tuple(before))

    def excess(bound: float) -> float:
        return _tail(path, information, bound) - fresh

    if excess(_HIGH) >= 0.0:
        return math.inf
    return float(brentq(excess, _LOW, _HIGH, xtol=1e-6))


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the score is after a look that did not reject."""

    information: float
    #: score, [M]
    points: Floats
    #: probability that goes with each, [M]; they sum to what has not rejected
    mass: Floats


@lru_cache(maxsize=64)  # each look asks for all before it
def _path(looks: tuple[SpentLook, ...]) -> _Path | None:
    if not looks:
        return None
    look = looks[-1]
    top = min(look.bound, _HIGH)
    count = max(2, math.ceil((top - _LOW) * _POINTS_A_UNIT) + 1)
    deviates = np.linspace(_LOW, top, count)
    root = math.sqrt(look.information)
    points = deviates * root
    mass = _density(_path(looks[:-1]), points, look.information)
    mass *= float(points[1] - points[0])
    mass[[0, -1]] /= 2.0  # the trapezoidal rule
    return _Path(look.information, points, mass)


def _density(path: _Path | None, points: Floats, information: float) -> Floats:
    """Return the density of the score at a look, of paths that have not rejected before it."""
    if path is None:
        return _normal(points, information)
    grown = information - path.information
    found: Floats = _normal(points[:, None] - path.points[None, :], grown) @ path.mass
    return found


def _normal(at: Floats, variance: float) -> Floats:
    density: Floats = np.exp(-(at**2) / (2.0 * variance)) / math.sqrt(2.0 * math.pi * variance)
    return density


def _tail(path: _Path | None, information: float, bound: float) -> float:
    """Return the chance that a path first rejects at a look with this bound."""
    score = bound * math.sqrt(information)
    if path is None:
        return float(ndtr(-bound))
    grown = math.sqrt(information - path.information)
    return float(ndtr((path.points - score) / grown) @ path.mass)
