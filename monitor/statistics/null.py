"""The joint null of all members, drawn inside folds that their features did not see.

A window and the rest of a fold are exchangeable given features that were fitted without
the fold, so a random split of the fold's patients is a draw under the null. A draw needs
inner products of patient sums only: one Gram matrix per member and fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.combination import Tails, evidence, exceedance
from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.two_sample import Layout, PatientSums

# Numbers of patients for which the null is drawn; between them log p is interpolated, and
# beyond the largest that a fold allows the law no longer changes.
_SIZES = (5, 10, 20, 40, 80, 160, 320)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldGrams:
    """Inner products of the sums of one fold's patients, about the fold's mean."""

    #: [G, U, U]
    grams: Singles
    #: [U]
    masses: Floats
    #: [U, G]
    spreads: Floats

    @classmethod
    def of(cls, sums: PatientSums, layout: Layout) -> FoldGrams:
        """Multiply a fold's patient sums with each other."""
        centred = sums.about(sums.mean)
        parts = [centred.sums[:, layout.part(g)] for g in range(len(layout.edges) - 1)]
        return cls(
            grams=np.stack([part @ part.T for part in parts]),
            masses=sums.masses,
            spreads=sums.spreads,
        )

    def draw(self, size: int, *, draws: int, rng: np.random.Generator) -> Floats:
        """Return T of random windows of `size` patients against the rest, [draws, G]."""
        patients = len(self.masses)
        chosen = np.argsort(rng.random((draws, patients)), axis=1)[:, :size]
        window = np.zeros((draws, patients), dtype=np.float32)
        np.put_along_axis(window, chosen, np.float32(1.0), axis=1)
        flags = window.astype(np.float64)
        mass = flags @ self.masses
        mass_pairs = mass**2 - flags @ self.masses**2
        rest = self.masses.sum() - mass
        rest_pairs = rest**2 - (1.0 - flags) @ self.masses**2
        spread = flags @ self.spreads
        inverse = spread / mass[:, None] ** 2
        inverse += (self.spreads.sum(axis=0) - spread) / rest[:, None] ** 2
        statistics = np.empty((draws, len(self.grams)))
        for g, gram in enumerate(self.grams):
            # Sums about the fold's mean add to zero, so rest'rest = w'w and w'rest = -w'w.
            product = np.einsum("bi,bi->b", window @ gram, window, dtype=np.float64)
            diagonal = np.diagonal(gram).astype(np.float64)
            own = flags @ diagonal
            statistics[:, g] = (
                (product - own) / mass_pairs
                + 2.0 * product / (mass * rest)
                + (product - (diagonal.sum() - own)) / rest_pairs
            )
        return statistics / inverse

    def forms(self, *, groups: int, draws: int, rng: np.random.Generator) -> Singles:
        """Return forms of independent means of random signs, [draws, groups, groups, G].

        With signs s_a, the sum over patients of s_a S is close to a normal vector with
        the covariance of S (the multiplier bootstrap), and independent between groups.
        Entry (a, b) is the inner product of two such sums over pairs of different
        patients, in variances of one: mean zero, and trace-free for a = b.
        """
        patients = len(self.masses)
        signs = rng.integers(0, 2, size=(draws * groups, patients)).astype(np.float32) * 2 - 1
        forms = np.empty((draws, groups, groups, len(self.grams)), dtype=np.float32)
        stacked = signs.reshape(draws, groups, patients)
        for g, gram in enumerate(self.grams):
            products = (signs @ gram).reshape(draws, groups, patients) @ stacked.transpose(
                0, 2, 1
            )
            trace = float(np.trace(gram, dtype=np.float64))
            own = np.eye(groups, dtype=np.float32) * np.float32(trace)
            forms[..., g] = (products - own) / np.float32(max(trace, 1e-30))
        return forms


@dataclass(frozen=True, slots=True, kw_only=True)
class NullTable:
    """The null at a grid of window sizes."""

    #: [S] patients in a window, rising
    sizes: Integers
    #: [S, G] each
    means: Floats
    deviations: Floats
    skewnesses: Floats
    #: [S, B] evidence of the draws, rising
    evidence: Floats

    @classmethod
    def draw(
        cls,
        folds: Sequence[FoldGrams],
        *,
        weights: Floats,
        draws: int,
        rng: np.random.Generator,
    ) -> NullTable:
        """Draw the null, the same number of times in each fold."""
        largest = min(len(fold.masses) for fold in folds) // 2
        sizes = sorted({min(size, largest) for size in _SIZES})
        each = -(-draws // len(folds))
        tails: list[Tails] = []
        combined: list[Floats] = []
        for size in sizes:
            drawn = np.concatenate([fold.draw(size, draws=each, rng=rng) for fold in folds])
            tails.append(Tails.of(drawn))
            combined.append(np.sort(evidence(tails[-1].log_p(drawn), weights)))
        return cls(
            sizes=np.asarray(sizes, dtype=np.int64),
            means=np.stack([tail.means for tail in tails]),
            deviations=np.stack([tail.deviations for tail in tails]),
            skewnesses=np.stack([tail.skewnesses for tail in tails]),
            evidence=np.stack(combined),
        )

    @property
    def least_p(self) -> float:
        """The smallest p-value that the draws can support."""
        return 1.0 / (1 + int(self.evidence.shape[1]))

    def tails(self, index: int) -> Tails:
        """Return the members' laws at the grid's size of that index."""
        return Tails(
            means=self.means[index],
            deviations=self.deviations[index],
            skewnesses=self.skewnesses[index],
        )

    def neighbours(self, patients: int) -> list[tuple[int, float]]:
        """Return the grid's indices around a window size, with weights that add to one."""
        at = np.log(np.clip(patients, self.sizes[0], self.sizes[-1]))
        grid = np.log(self.sizes)
        upper = int(np.searchsorted(grid, at, side="left"))
        if upper == 0 or grid[upper] == at:
            return [(upper, 1.0)]
        share = float((at - grid[upper - 1]) / (grid[upper] - grid[upper - 1]))
        return [(upper - 1, 1.0 - share), (upper, share)]

    def p_values(
        self, statistics: Floats, *, patients: int, weights: Floats
    ) -> tuple[float, Floats]:
        """Return the portfolio's p-value, and the members' log p [G], of statistics T [G]."""
        combined, single = 0.0, np.zeros(len(statistics))
        for index, share in self.neighbours(patients):
            log_p = self.tails(index).log_p(statistics)
            value = float(evidence(log_p, weights))
            combined += share * float(np.log(exceedance(self.evidence[index], value)))
            single += share * log_p
        return float(np.exp(combined)), single
