"""Heads on embeddings: reading them, and fitting one by penalised logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from registry.bundles.heads import Floats, HeadState

Doubles = npt.NDArray[np.float64]

#: Penalties that are tried, from one that keeps the head as it was to almost none.
PENALTIES = tuple(10.0**exponent for exponent in np.arange(1.0, -4.5, -0.5))
#: A coordinate that hardly varies is not blown up beyond this share of the usual spread.
_LEAST_SPREAD = 1e-3
MOST_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A linear head of two classes, as the margin of the second over the first."""

    weight: Doubles  #: [d]
    bias: float

    def margins(self, embeddings: Floats | Doubles) -> Doubles:
        """Return the margin of each embedding, [n]."""
        found: Doubles = embeddings.astype(np.float64) @ self.weight + self.bias
        return found

    def moved(self, by: float) -> Head:
        """Return the head with another bias."""
        return Head(weight=self.weight, bias=self.bias + by)


def read_head(state: HeadState, task: str, *, dimension: int) -> Head:
    """Return a task's head; a task without one has a head of zeros.

    Parameters
    ----------
    state : as a bundle stores it
    """
    if f"{task}.weight" not in state:
        return Head(weight=np.zeros(dimension), bias=0.0)
    weight = state[f"{task}.weight"].astype(np.float64)
    bias = state[f"{task}.bias"].astype(np.float64)
    return Head(weight=weight[1] - weight[0], bias=float(bias[1] - bias[0]))


def with_head(state: HeadState, task: str, head: Head) -> dict[str, Floats]:
    """Return the state with a task's head replaced; both classes take half of the margin."""
    weight = np.stack([-head.weight / 2, head.weight / 2]).astype(np.float32)
    bias = np.array([-head.bias / 2, head.bias / 2], dtype=np.float32)
    return {**state, f"{task}.weight": weight, f"{task}.bias": bias}


def with_moved_bias(state: HeadState, task: str, by: float) -> dict[str, Floats]:
    """Return the state with a task's margins moved by a constant, its weights as they were."""
    bias = state[f"{task}.bias"].astype(np.float64) + np.array([-by / 2, by / 2])
    return {**state, f"{task}.bias": bias.astype(np.float32)}


def fit_heads(
    embeddings: Floats,
    targets: npt.NDArray[np.int64],
    start: Head,
    *,
    fitted: Callable[[int, Head, float], None],
) -> None:
    """Fit a head for each penalty, from the heaviest on, and hand each over.

    Logistic regression on standardised coordinates. The penalty is on the distance from
    the head at the start and not from zero, so that few labels change little. The problem
    is convex: no learning rate, no order of scans and no seed decides what comes out.

    Parameters
    ----------
    embeddings, targets : [n, d] and [n]
    start : the head to depart from
    fitted : told the number of the penalty, the head and its mean cross-entropy
    """
    values = embeddings.astype(np.float64)
    design, centre, spread = standardised(values)
    signs = np.where(targets == 1, 1.0, -1.0)
    prior = np.append(start.weight * spread, start.bias + float(start.weight @ centre))
    found = prior.copy()
    for index, penalty in enumerate(PENALTIES):

        def loss(parameters: Doubles, penalty: float = penalty) -> tuple[float, Doubles]:
            agreement = signs * (design @ parameters[:-1] + parameters[-1])
            wrong = expit(-agreement) * signs / len(signs)
            # The bias is free: it says how frequent the finding is.
            away = np.append(parameters[:-1] - prior[:-1], 0.0)
            gradient = -np.append(design.T @ wrong, wrong.sum()) + penalty * away
            value = np.mean(np.logaddexp(0.0, -agreement)) + penalty / 2 * (away @ away)
            return float(value), gradient

        found = minimize(
            loss, found, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS}
        ).x
        weight = found[:-1] / spread
        head = Head(weight=weight, bias=float(found[-1] - weight @ centre))
        margins = head.margins(values)
        fitted(index, head, float(np.mean(np.logaddexp(0.0, -signs * margins))))


def standardised(values: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return values [n, d] on standardised coordinates, with the centre and spread of each [d]."""
    centre, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.maximum(spread, _LEAST_SPREAD * max(float(spread.max()), 1e-12))
    return (values - centre) / spread, centre, spread
