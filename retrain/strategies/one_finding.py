"""A finding and its absence: one margin decides, that of the second class over the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from registry.bundles.heads import Floats, HeadState, Task
from retrain.strategies.calibrating import (
    Calibration,
    Margins,
    Targets,
    calibrated_after_training,
    recalibrated,
    recalibrated_by_prevalence,
)
from retrain.strategies.curve import Tell
from retrain.strategies.heads import read_head, with_head, with_moved_bias
from retrain.strategies.judging import Judged, judged
from retrain.strategies.objective import Fitted
from retrain.strategies.refitting import Examples, refit
from retrain.strategies.scans import Scans, require_both_classes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class OneFinding:
    """A multi-class task of two classes whose second one is the finding."""

    task: Task

    def margins(self, heads: HeadState, embeddings: Floats) -> Margins:
        """Return margins, [n]."""
        head = read_head(heads, self.task.name, dimension=embeddings.shape[1])
        return head.margins(embeddings)

    def margins_of(self, logits: Floats) -> Margins:
        """Return margins, [n]."""
        return (logits[:, 1] - logits[:, 0]).astype(np.float64)

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets)

    def judged(self, margins: Margins, targets: Targets) -> Judged:
        return judged(margins, targets)

    def as_it_is(self) -> Calibration:
        return Calibration(
            temperature=self.task.temperature,
            intercept=0.0,
            threshold=self.task.threshold or 0.5,
        )

    def require_every_class(self, targets: Targets, *, what: str) -> None:
        require_both_classes(targets, what=what)

    def refit(
        self, heads: HeadState, training: Examples, selection: Examples, *, tell: Tell
    ) -> Fitted:
        start = read_head(heads, self.task.name, dimension=training.embeddings.shape[1])
        refitted = refit(start, training, selection, tell=tell)
        return Fitted(
            heads=with_head(heads, self.task.name, refitted.head),
            calibration=refitted.calibration,
            margins=refitted.margins,
            facts={"penalty": refitted.penalty},
        )

    def calibrated(self, heads: HeadState, margins: Margins, targets: Targets) -> Fitted:
        return Fitted(
            heads=dict(heads),
            calibration=calibrated_after_training(margins, targets),
            margins=margins,
        )

    def recalibrated(self, heads: HeadState, margins: Margins, scans: Scans) -> Fitted:
        found = recalibration_of(margins, scans.targets, scans)
        return Fitted(
            heads=with_moved_bias(heads, self.task.name, found.intercept),
            # The intercept stands in the head's bias from here on.
            calibration=replace(found, intercept=0.0),
            margins=margins + found.intercept,
            facts={"intercept": found.intercept},
        )


def recalibration_of(margins: Margins, targets: Targets, scans: Scans) -> Calibration:
    """Return what fits margins [n] of a run's scans anew.

    On labels of the shift where there are any, and never on the reference, whose scores the
    shift did not move. Without labels only a changed prevalence can be taken up.

    Parameters
    ----------
    targets : 0 or 1 for this finding, [n]
    """
    labelled = scans.training_of_shift
    if len(labelled):
        return recalibrated(margins[labelled], targets[labelled])
    reference = scans.training_of_reference
    return recalibrated_by_prevalence(
        margins[scans.unlabelled_of_shift], margins[reference], targets[reference]
    )
