"""Occupancy of cells: which kinds of scans come more often, and which less.

Scans are clustered along the first whitened directions (k-means, Lloyd 1982, seeded by D^2
sampling with several trials, Arthur & Vassilvitskii 2007); every scan then falls into the
cell of its nearest centre. How many cells there are is read from the silhouette (Rousseeuw
1987, *J. Comput. Appl. Math.* 20:53-65) of scans of patients that did not shape them.

A cell's borders bend to the scans that it was fitted on, but their number in it hardly
does: the reference's shares are taken over all its scans (docs/decisions/0005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.distances import squared_distances
from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.members.member import Member

_STARTS = 4
_ROUNDS = 20
# Points farther out than this, in typical lengths, are drawn in: else cells are spent on
# single far scans.
_REACH = np.float32(1.2)
# Beyond as many cells a doubled one stands out less than the largest of the rest.
_COUNTS = (4, 6, 8, 10, 12, 16, 20, 24)
# Scans, shaping and others each, that the number of cells is read from.
_SCANS = 2000
# Scans added to each cell before its share is estimated, so that none is empty.
_PSEUDO_COUNT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Centres of cells, and how many scans lie in each."""

    #: [p] 1 / standard deviation along the first principal directions
    precisions: Singles
    #: [k, p] in standard deviations along them
    centres: Singles
    #: [k] share of fitted scans in each, adding to one
    shares: Floats

    @classmethod
    def of(
        cls, at: Coordinates, precisions: Singles, *, count: int, rng: np.random.Generator
    ) -> Cells:
        """Cluster scans along as many directions as there are precisions [p]."""
        points = _points(at.principal, precisions)
        centres = _k_means(points, count, rng)
        counts = np.bincount(_nearest(points, centres), minlength=count) + _PSEUDO_COUNT
        return cls(precisions=precisions, centres=centres, shares=counts / counts.sum())

    def one_hot(self, at: Coordinates) -> Singles:
        """Return the cell of each scan as an indicator, [n, k]."""
        cell = _nearest(_points(at.principal, self.precisions), self.centres)
        indicators = np.zeros((len(cell), len(self.centres)), dtype=np.float32)
        indicators[np.arange(len(cell)), cell] = 1.0
        return indicators


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy(Member):
    """Indicators of cells over the root of their shares: a chi-squared distance.

    Peaked, bare indicators: the cell that grew most. The effect is Pearson's phi, if peaked
    that of one cell.
    """

    cells: Cells
    peaked: bool = False

    @property
    def size(self) -> int:
        return len(self.cells.shares)

    def features(self, at: Coordinates) -> Singles:
        """Return [n, k]."""
        indicators = self.cells.one_hot(at)
        if not self.peaked:
            indicators /= np.sqrt(self.cells.shares).astype(np.float32)
        return indicators


def count_cells(
    at: Coordinates,
    shaping: Flags,
    precisions: Singles,
    *,
    most: int,
    rng: np.random.Generator,
) -> int:
    """Return the number of cells, at most `most`, in which scans that shape none sit best.

    Judged by how much nearer a scan is to its cell's centre than to the next one (the
    silhouette with centres in place of members), on average.

    Parameters
    ----------
    shaping : [n] which scans the cells are fitted on; the others judge
    precisions : [p] as in `Cells`
    """
    points, judges = (
        _points(at.principal[rng.permutation(np.flatnonzero(which))[:_SCANS]], precisions)
        for which in (shaping, ~shaping)
    )
    counts = [count for count in _COUNTS if count <= most] or [_COUNTS[0]]
    return max(counts, key=lambda count: _silhouette(judges, _k_means(points, count, rng)))


def _silhouette(points: Singles, centres: Singles) -> float:
    squared = np.maximum(squared_distances(points, centres), 0.0)
    own, following = np.sqrt(np.partition(squared, 1, axis=1)[:, :2].T)
    return float(np.mean(1.0 - own / np.maximum(following, 1e-12), dtype=np.float64))


def _points(principal: Singles, precisions: Singles) -> Singles:
    """Return scans along the first directions, far ones drawn in, [n, p]."""
    points = principal[:, : len(precisions)] * precisions
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
    farthest = _REACH * np.float32(np.sqrt(len(precisions)))
    points *= np.minimum(1.0, farthest / np.maximum(lengths, 1e-12))[:, None]
    return points


def _nearest(points: Singles, centres: Singles) -> Integers:
    nearest: Integers = squared_distances(points, centres).argmin(axis=1).astype(np.int64)
    return nearest


def _k_means(points: Singles, cells: int, rng: np.random.Generator) -> Singles:
    best, least = points[:cells], np.inf
    for _ in range(_STARTS):
        centres = _seeds(points, cells, rng)
        for _ in range(_ROUNDS):
            cell = _nearest(points, centres)
            members = np.zeros((len(centres), len(points)), dtype=np.float32)
            members[cell, np.arange(len(points))] = 1.0
            counts = members.sum(axis=1)
            moved = centres.copy()
            moved[counts > 0] = (members @ points)[counts > 0] / counts[counts > 0, None]
            if np.array_equal(moved, centres):
                break
            centres = moved
        cost = float(squared_distances(points, centres).min(axis=1).sum(dtype=np.float64))
        if cost < least:
            best, least = centres, cost
    return best


def _seeds(points: Singles, cells: int, rng: np.random.Generator) -> Singles:
    """Draw centres one by one by D^2 sampling, each the best of several trials."""
    trials = 2 + int(np.log(cells))
    chosen = [int(rng.integers(len(points)))]
    nearest = np.maximum(squared_distances(points, points[chosen])[:, 0], 0.0)
    while len(chosen) < cells and float(nearest.sum()) > 0:
        drawn = np.cumsum(nearest, dtype=np.float64)
        tried = np.searchsorted(drawn, rng.random(trials) * drawn[-1], side="right")
        tried = np.minimum(tried, len(points) - 1)
        distances = np.maximum(squared_distances(points, points[tried]), 0.0)
        left = np.minimum(nearest[:, None], distances)
        best = int(left.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(tried[best]))
        nearest = left[:, best]
    # Fewer distinct scans than cells: the rest stay empty, so that all fits have as many.
    chosen += [chosen[0]] * (cells - len(chosen))
    return points[chosen]
