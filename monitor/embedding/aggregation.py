"""From what a bundle says of images to what it says of a scan of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundles.heads import Task, TaskKind
from registry.bundles.scan_units import Aggregate

Floats: TypeAlias = NDArray[np.float32]


def aggregated(rows: Floats, counts: Sequence[int], how: Aggregate) -> Floats:
    """Return the mean or the maximum of so many rows in turn, float32 [len(counts), k].

    As the rows are: an encoder that scales its embeddings to length one gives
    means that are shorter. Means are summed in float64.

    Raises
    ------
    ValueError
        If the counts are not above 0, or do not add up to the rows.
    """
    starts = _starts(rows, counts)
    if how is Aggregate.MAX:
        highest: Floats = np.maximum.reduceat(rows, starts, axis=0)
        return highest
    sums = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    means: Floats = (sums / np.array(counts, dtype=np.float64)[:, None]).astype(np.float32)
    return means


def aggregated_probabilities(
    probabilities: Mapping[str, Floats],
    tasks: Sequence[Task],
    counts: Sequence[int],
    how: Aggregate,
) -> dict[str, Floats]:
    """Return each task's probabilities of a scan from those of its instances.

    Of classes of which one holds, the maximum is that of the class which is
    looked for, and the others are of the same instance, so that they still
    add up to 1.
    """
    return {
        task.name: _of_likeliest(probabilities[task.name], task, counts)
        if how is Aggregate.MAX and task.kind is TaskKind.MULTI_CLASS
        else aggregated(probabilities[task.name], counts, how)
        for task in tasks
    }


def _of_likeliest(rows: Floats, task: Task, counts: Sequence[int]) -> Floats:
    starts = _starts(rows, counts)
    chosen = [
        start + int(np.argmax(rows[start : start + count, task.column]))
        for start, count in zip(starts, counts, strict=True)
    ]
    return rows[chosen]


def _starts(rows: Floats, counts: Sequence[int]) -> NDArray[np.int64]:
    if min(counts, default=1) < 1 or sum(counts) != len(rows):
        raise ValueError(f"{len(rows)} rows are not {list(counts)} of {len(counts)} scans")
    return np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
