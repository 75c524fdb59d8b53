"""Which simulated windows stand for a kind of cause, and how near others of the kind lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from cause_patterns import Table

from monitor.statistics.attribution.classifier import compared_piece, compared_pieces
from monitor.statistics.attribution.nearness import Nearness

Integers = npt.NDArray[np.int64]

#: windows of a kind that stand for it, and held-out ones whose distances are kept
_EXAMPLES, _HELD_OUT = 400, 800
_QUANTILES = 250


def fit_nearness(
    training: Table, held_out: Table, kinds: Sequence[str], *, seed: int = 0
) -> Nearness:
    """Choose examples of each kind, and see how far windows of a held-out pool lie from them."""
    rng = np.random.default_rng([31, seed])
    middles = np.median(training.values, axis=0)
    spread = np.quantile(training.values, (0.1, 0.9), axis=0)
    scales = np.maximum((spread[1] - spread[0]) / 2.56, 1e-3)
    pieces = compared_pieces(training.names)
    chosen = [_some(training, kind, _EXAMPLES, rng) for kind in kinds]
    made = Nearness(
        middles=middles,
        scales=scales,
        pieces=np.array(
            [
                -1 if compared is None else pieces.index(compared)
                for compared in (compared_piece(piece) for piece, _ in training.names)
            ]
        ),
        # As they are kept: in half the room.
        examples=np.concatenate(
            [np.clip((training.values[rows] - middles) / scales, -8.0, 8.0) for rows in chosen]
        )
        .astype(np.float16)
        .astype(np.float64),
        kinds=np.repeat(np.arange(len(kinds)), [len(rows) for rows in chosen]),
        held_out=np.zeros((len(kinds), len(pieces), 1)),
    )
    shares = np.linspace(0.0, 1.0, _QUANTILES)
    distances = [
        made.distances(held_out.values[_some(held_out, kind, _HELD_OUT, rng)], at)
        for at, kind in enumerate(kinds)
    ]
    return replace(
        made, held_out=np.stack([np.quantile(one, shares, axis=0).T for one in distances])
    )


def _some(windows: Table, kind: str, most: int, rng: np.random.Generator) -> Integers:
    """Return rows of a kind: all of them, or so many at random."""
    rows = np.flatnonzero(windows.kind == kind)
    return np.sort(rng.permutation(rows)[:most])
