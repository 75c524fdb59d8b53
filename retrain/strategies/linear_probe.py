"""Linear probe: the head alone learns, on embeddings that are made once."""

from __future__ import annotations

from registry.bundles.heads import Floats, HeadState
from retrain.strategies.curve import Tell, not_told
from retrain.strategies.making import Made, Work
from retrain.strategies.objective import Objective
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import Scans


def probe(work: Work) -> Made:
    """Make a candidate by refitting the head on labels of the shift and of the reference.

    Any encoder will do, one that is ONNX alone included.
    """
    return probed(
        work.objective, work.base.head_state(), work.embeddings(), work.scans, tell=work.tell
    )


def probed(
    objective: Objective,
    heads: HeadState,
    embeddings: Floats,
    scans: Scans,
    *,
    tell: Tell = not_told,
) -> Made:
    """Refit a task's head on embeddings [n, d] of a run's scans.

    Raises
    ------
    InsufficientDataError
        If a class is missing on either side.
    """
    training, selection = (
        Examples(embeddings=embeddings[rows], targets=scans.targets[rows])
        for rows in (scans.training, scans.selection)
    )
    refitted = objective.refit(heads, training, selection, tell=tell)
    return Made(
        embedder=None,
        heads=refitted.heads,
        calibration=refitted.calibration,
        margins=refitted.margins,
        facts=refitted.facts,
    )
