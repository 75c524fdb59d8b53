"""Gradient-boosted decision trees as plain arrays: what a library fitted, without the library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from monitor.statistics.embeddings import Floats, Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoostedTrees:
    """Trees side by side, their nodes in one row.

    Each tree adds the value of one leaf to the score of one class; probabilities are the
    scores' softmax (Friedman 2001, *Annals of Statistics* 29:1189-1232, section 4.6).
    """

    #: [K] scores before any tree
    baseline: Floats
    #: [T] class that a tree is of, and its root
    classes: Integers
    roots: Integers
    #: [M] column that a node asks for; -1 at a leaf
    columns: Integers
    #: [M] values up to it go left; at a leaf, what is added
    values: Floats
    #: [M] where to go on
    lefts: Integers
    rights: Integers

    def __post_init__(self) -> None:
        nodes, asking = len(self.columns), self.columns >= 0
        if not len(self.values) == len(self.lefts) == len(self.rights) == nodes:
            raise ValueError("the arrays of nodes must be of one length")
        if len(self.classes) != len(self.roots) or np.any(self.classes >= len(self.baseline)):
            raise ValueError("every tree must have a root, and be of a known class")
        # A child behind its parent: no walk can go in circles.
        below = np.concatenate([self.lefts[asking], self.rights[asking]])
        own = np.tile(np.flatnonzero(asking), 2)
        if np.any(below <= own) or np.any(below >= nodes) or np.any(self.roots >= nodes):
            raise ValueError("a tree's nodes must come before the nodes below them")

    def probabilities(self, rows: Floats) -> Floats:
        """Return the classes' probabilities for rows [n, F], [n, K]."""
        place = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        at = np.arange(len(rows))[:, None]
        while True:
            column = self.columns[place]
            asking = column >= 0
            if not asking.any():
                break
            left = rows[at, np.maximum(column, 0)] <= self.values[place]
            following = np.where(left, self.lefts[place], self.rights[place])
            place = np.where(asking, following, place)
        added = self.values[place]
        scores = np.stack(
            [
                start + added[:, self.classes == k].sum(axis=1)
                for k, start in enumerate(self.baseline.tolist())
            ],
            axis=1,
        )
        return np.asarray(softmax(scores, axis=1))
