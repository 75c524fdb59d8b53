"""Refitting a head on embeddings, its penalty chosen on the selection set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.bundles.heads import Floats
from retrain.strategies.calibrating import Calibration, calibrated_after_training
from retrain.strategies.curve import Point, Tell
from retrain.strategies.heads import PENALTIES, Doubles, Head, fit_heads
from retrain.strategies.judging import judged
from retrain.strategies.scans import require_both_classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refitted:
    """The head of the best penalty."""

    head: Head
    calibration: Calibration
    #: of the selection set, before the calibration
    margins: Doubles
    penalty: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Embeddings with labels."""

    embeddings: Floats  #: [n, d]
    targets: npt.NDArray[np.int64]  #: 0 or 1, [n]


def refit(start: Head, training: Examples, selection: Examples, *, tell: Tell) -> Refitted:
    """Return the head, of those that `fit_heads` makes, with the least loss on the selection.

    Raises
    ------
    InsufficientDataError
        If a class is missing on either side.
    """
    require_both_classes(training.targets, what="training scans")
    require_both_classes(selection.targets, what="selection scans")
    best: tuple[float, int, Head] | None = None

    def compare(index: int, head: Head, training_loss: float) -> None:
        nonlocal best
        found = judged(head.margins(selection.embeddings), selection.targets)
        if best is None or found.loss < best[0]:
            best = (found.loss, index, head)
        tell(
            Point(
                epoch=index + 1,
                epochs=len(PENALTIES),
                step=1,
                steps=1,
                loss=found.loss,
                selection_auc=found.selection_auc,
                training_loss=training_loss,
            )
        )

    fit_heads(training.embeddings, training.targets, start, fitted=compare)
    assert best is not None  # noqa: S101 - there are penalties
    _, index, head = best
    margins = head.margins(selection.embeddings)
    return Refitted(
        head=head,
        calibration=calibrated_after_training(margins, selection.targets),
        margins=margins,
        penalty=PENALTIES[index],
    )
