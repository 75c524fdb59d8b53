"""Linear probe: the head alone learns, on embeddings that are made once."""

from __future__ import annotations

from registry.bundles.heads import Floats, HeadState
from retrain.strategies.heads import read_head, with_head
from retrain.strategies.making import Made, Tell, Work, not_told
from retrain.strategies.refitting import Examples, refit
from retrain.strategies.scans import Scans


def probe(work: Work) -> Made:
    """Make a candidate by refitting the head on labels of the shift and of the reference.

    Any encoder will do, one that is ONNX alone included.
    """
    return probed(
        work.base.head_state(), work.task, work.embeddings(), work.scans, tell=work.tell
    )


def probed(
    heads: HeadState, task: str, embeddings: Floats, scans: Scans, *, tell: Tell = not_told
) -> Made:
    """Refit a task's head on embeddings [n, d] of a run's scans.

    Raises
    ------
    InsufficientDataError
        If a class is missing on either side.
    """
    refitted = refit(
        read_head(heads, task, dimension=embeddings.shape[1]),
        Examples(embeddings=embeddings[scans.training], targets=scans.targets[scans.training]),
        Examples(
            embeddings=embeddings[scans.selection], targets=scans.targets[scans.selection]
        ),
        tell=tell,
    )
    return Made(
        embedder=None,
        heads=with_head(heads, task, refitted.head),
        calibration=refitted.calibration,
        margins=refitted.margins,
        facts={"penalty": refitted.penalty},
    )
