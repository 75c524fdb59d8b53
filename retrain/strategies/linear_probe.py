"""Linear probe: the head alone learns, on embeddings that are made once."""

from __future__ import annotations

from retrain.strategies.heads import read_head, with_head
from retrain.strategies.making import Made, Work
from retrain.strategies.refitting import Examples, refit


def probe(work: Work) -> Made:
    """Make a candidate by refitting the head on labels of the shift and of the reference.

    Any encoder will do, one that is ONNX alone included.
    """
    embeddings, scans = work.embeddings(), work.scans
    heads = work.base.head_state()
    refitted = refit(
        read_head(heads, work.task, dimension=work.base.dimension),
        Examples(embeddings=embeddings[scans.training], targets=scans.targets[scans.training]),
        Examples(
            embeddings=embeddings[scans.selection], targets=scans.targets[scans.selection]
        ),
        tell=work.tell,
    )
    return Made(
        embedder=None,
        heads=with_head(heads, work.task, refitted.head),
        calibration=refitted.calibration,
        margins=refitted.margins,
        facts={"penalty": refitted.penalty},
    )
