"""Recalibration: scores are read anew; the encoder and the weights of the head stay.

What is fitted are three numbers: the temperature, one constant that is added to the head's
bias, and the threshold. The order of scans, and so the AUC, cannot change.
"""

from __future__ import annotations

from dataclasses import replace

from registry.bundles.heads import Floats, HeadState
from registry.errors import BundleError
from retrain.strategies.calibrating import (
    Calibration,
    recalibrated,
    recalibrated_by_prevalence,
)
from retrain.strategies.heads import Doubles, read_head, with_moved_bias
from retrain.strategies.judging import judged
from retrain.strategies.making import Made, Point, Tell, Work, not_told
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
    heads = work.base.head_state()
    if f"{work.task}.weight" not in heads:
        raise BundleError(
            f"{work.base.card.name} has no task {work.task}: there is nothing to recalibrate"
        )
    return reread(heads, work.task, work.embeddings(), work.scans, tell=work.tell)


def reread(
    heads: HeadState, task: str, embeddings: Floats, scans: Scans, *, tell: Tell = not_told
) -> Made:
    """Refit how a task's scores are read, on embeddings [n, d] of a run's scans.

    Raises
    ------
    InsufficientDataError
        As `recalibrate` does.
    """
    head = read_head(heads, task, dimension=embeddings.shape[1])
    margins = head.margins(embeddings)
    calibration = _fitted(scans, margins)
    rows = scans.selection
    moved, targets = margins[rows] + calibration.intercept, scans.targets[rows]
    found = judged(moved / calibration.temperature, targets)
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
        heads=with_moved_bias(heads, task, calibration.intercept),
        # The intercept stands in the head's bias from here on.
        calibration=replace(calibration, intercept=0.0),
        margins=moved,
        facts={"intercept": calibration.intercept},
    )


def _fitted(scans: Scans, margins: Doubles) -> Calibration:
    labelled = scans.training_of_shift
    if len(labelled):
        return recalibrated(margins[labelled], scans.targets[labelled])
    reference = scans.training_of_reference
    return recalibrated_by_prevalence(
        margins[scans.unlabelled_of_shift], margins[reference], scans.targets[reference]
    )
