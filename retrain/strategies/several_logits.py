"""Heads of several logits on embeddings: all of them fitted at once, as `heads` fits one margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize

from registry.bundles.heads import Floats, HeadState, Task
from retrain.strategies.curve import Point, Tell
from retrain.strategies.heads import MOST_STEPS, PENALTIES, Doubles, standardised
from retrain.strategies.objective import Fitted, Objective
from retrain.strategies.refitting import Examples

#: Returns the loss of logits [n, k], a sum over what is learned and a mean over scans, and its
#: gradient [n, k].
Loss: TypeAlias = Callable[[Doubles], tuple[float, Doubles]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitHead:
    """A linear head of several logits."""

    weight: Doubles  #: [k, d]
    bias: Doubles  #: [k]

    def logits(self, embeddings: Floats | Doubles) -> Doubles:
        """Return the logits of each embedding, [n, k]."""
        found: Doubles = embeddings.astype(np.float64) @ self.weight.T + self.bias
        return found

    def into(self, state: HeadState, task: str) -> dict[str, Floats]:
        """Return a bundle's heads with this one for a task."""
        return {
            **state,
            f"{task}.weight": self.weight.astype(np.float32),
            f"{task}.bias": self.bias.astype(np.float32),
        }


def read_logit_head(state: HeadState, task: Task, *, dimension: int) -> LogitHead:
    """Return a task's head; a task without one has a head of zeros."""
    if f"{task.name}.weight" not in state:
        classes = len(task.classes)
        return LogitHead(weight=np.zeros((classes, dimension)), bias=np.zeros(classes))
    return LogitHead(
        weight=state[f"{task.name}.weight"].astype(np.float64),
        bias=state[f"{task.name}.bias"].astype(np.float64),
    )


def refit_logits(
    objective: Objective,
    loss: Loss,
    heads: HeadState,
    training: Examples,
    selection: Examples,
    *,
    tell: Tell,
) -> Fitted:
    """Return the calibrated head of the best penalty, with the margins of the selection.

    Raises
    ------
    InsufficientDataError
        If a class is missing on either side.
    """
    objective.require_every_class(training.targets, what="training scans")
    objective.require_every_class(selection.targets, what="selection scans")

    def judge(head: LogitHead) -> tuple[float, float]:
        found = objective.judged(head.logits(selection.embeddings), selection.targets)
        return found.loss, found.selection_auc

    task = objective.task
    start = read_logit_head(heads, task, dimension=training.embeddings.shape[1])
    head, penalty = best_head(training.embeddings, loss, start, judge=judge, tell=tell)
    made = objective.calibrated(
        head.into(heads, task.name), head.logits(selection.embeddings), selection.targets
    )
    made.facts["penalty"] = penalty
    return made


def best_head(
    embeddings: Floats,
    loss_of: Loss,
    start: LogitHead,
    *,
    judge: Callable[[LogitHead], tuple[float, float]],
    tell: Tell,
) -> tuple[LogitHead, float]:
    """Return the head of the penalty that is judged best, and that penalty.

    As for one finding the penalty is on the distance from the head at the start, biases are
    free, and the problem is convex: no seed decides what comes out.

    Parameters
    ----------
    embeddings : to learn from, [n, d]
    judge : returns a head's loss and area on the selection set
    """
    values = embeddings.astype(np.float64)
    design, centre, spread = standardised(values)
    classes, dimension = start.weight.shape
    prior = np.column_stack([start.weight * spread, start.bias + start.weight @ centre])
    found = prior.ravel()
    best: tuple[float, LogitHead, float] | None = None
    for index, penalty in enumerate(PENALTIES):

        def loss(parameters: Doubles, penalty: float = penalty) -> tuple[float, Doubles]:
            table = parameters.reshape(classes, dimension + 1)
            value, slope = loss_of(design @ table[:, :-1].T + table[:, -1])
            away = np.column_stack([table[:, :-1] - prior[:, :-1], np.zeros(classes)])
            gradient = np.column_stack([slope.T @ design, slope.sum(axis=0)]) + penalty * away
            return value + penalty / 2 * float(np.sum(away**2)), gradient.ravel()

        found = minimize(
            loss, found, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS}
        ).x
        table = found.reshape(classes, dimension + 1)
        weight = table[:, :-1] / spread
        head = LogitHead(weight=weight, bias=table[:, -1] - weight @ centre)
        selection_loss, area = judge(head)
        if best is None or selection_loss < best[0]:
            best = selection_loss, head, penalty
        tell(
            Point(
                epoch=index + 1,
                epochs=len(PENALTIES),
                step=1,
                steps=1,
                loss=selection_loss,
                selection_auc=area,
                training_loss=loss_of(head.logits(values))[0],
            )
        )
    assert best is not None  # noqa: S101 - there are penalties
    return best[1], best[2]
