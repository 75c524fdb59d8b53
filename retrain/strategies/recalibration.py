"""Recalibration: scores are read anew; the encoder stays, and what the head tells apart.

What is fitted for a finding are three numbers: the temperature, one constant that is added to
the head's bias, and the threshold. The order of scans, and so the AUC, cannot change. Several
findings have a temperature and a constant each, several classes a constant each.
"""

from __future__ import annotations

from registry.bundles.heads import Floats, HeadState
from registry.errors import BundleError
from retrain.strategies.curve import Point, Tell, not_told
from retrain.strategies.making import Made, Work
from retrain.strategies.objective import Objective
from retrain.strategies.scans import Scans


def recalibrate(work: Work) -> Made:
    """Make a candidate by refitting how the base's scores are read.

    On labels of the shift where there are any, and never on the reference, whose scores
    the shift did not move. Without labels only a changed prevalence can be taken up.

    Raises
    ------
    BundleError
        If the base has no head for the task.
    InsufficientDataError
        If there are too few scans to fit on, or their scores no longer rise with the
        finding.
    """
    heads, task = work.base.head_state(), work.objective.task.name
    if f"{task}.weight" not in heads:
        raise BundleError(
            f"{work.base.card.name} has no task {task}: there is nothing to recalibrate"
        )
    return reread(work.objective, heads, work.embeddings(), work.scans, tell=work.tell)


def reread(
    objective: Objective,
    heads: HeadState,
    embeddings: Floats,
    scans: Scans,
    *,
    tell: Tell = not_told,
) -> Made:
    """Refit how a task's scores are read, on embeddings [n, d] of a run's scans.

    Raises
    ------
    InsufficientDataError
        As `recalibrate` does.
    """
    fitted = objective.recalibrated(heads, objective.margins(heads, embeddings), scans)
    rows = scans.selection
    margins, targets = fitted.margins[rows], scans.targets[rows]
    found = objective.judged(margins / fitted.calibration.temperature, targets)
    tell(
        Point(
            epoch=1,
            epochs=1,
            step=1,
            steps=1,
            loss=found.loss,
            selection_auc=found.selection_auc,
        )
    )
    return Made(
        embedder=None,
        heads=fitted.heads,
        calibration=fitted.calibration,
        margins=margins,
        facts=fitted.facts,
    )
