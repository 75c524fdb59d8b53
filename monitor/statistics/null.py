"""The joint null of all members, drawn inside folds that their features did not see.

A window and the rest of a fold are exchangeable given features that were fitted without
the fold, so a random split of the fold's patients is a draw under the null. Windows of
all sizes are the first patients of one random order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.statistics.combination import Tails, evidence, exceedance
from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.two_sample import Layout, PatientSums, growths

# Numbers of patients for which the null is drawn; between them log p is interpolated, and
# beyond the largest that a fold allows the law no longer changes.
_SIZES = (5, 10, 20, 40, 80, 160, 320)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSums:
    """One fold's patient sums about the fold's mean, by member, ready to be drawn from.

    Squared lengths of sums over patients follow from the patients' inner products [U, U],
    which are kept in place of the features [U, s] where they are the smaller table.
    """

    #: of each member, [U, s] features or [U, U] inner products
    tables: tuple[Singles, ...]
    #: [G] whether a member's table holds inner products
    multiplied: tuple[bool, ...]
    #: [G]
    peaked: tuple[bool, ...]
    #: of each peaked member, the fold's mean features [s]
    shares: Mapping[int, Floats]
    #: [U, G] squared lengths of the patients' own sums
    squares: Floats
    #: [U]
    masses: Floats
    #: [U, G]
    spreads: Floats

    @classmethod
    def of(cls, sums: PatientSums, layout: Layout) -> FoldSums:
        """Prepare a fold's patient sums."""
        centred = sums.about(sums.mean)
        peaked = tuple(bool(one) for one in layout.peaked)
        parts = [
            np.ascontiguousarray(centred.sums[:, layout.part(g)]) for g in range(len(peaked))
        ]
        multiplied = tuple(
            part.shape[1] > part.shape[0] and not peak
            for part, peak in zip(parts, peaked, strict=True)
        )
        return cls(
            tables=tuple(
                part @ part.T if many else part
                for part, many in zip(parts, multiplied, strict=True)
            ),
            multiplied=multiplied,
            peaked=peaked,
            shares={g: sums.mean[layout.part(g)] for g, peak in enumerate(peaked) if peak},
            squares=layout.squared(centred.sums),
            masses=sums.masses,
            spreads=sums.spreads,
        )

    @property
    def patients(self) -> int:
        return len(self.masses)

    def draw(
        self, sizes: Sequence[int], *, draws: int, rng: np.random.Generator
    ) -> list[Floats]:
        """Return T of random windows against the fold's rest, [draws, G] for each size."""
        order = np.tile(np.arange(self.patients), (draws, 1))
        places = rng.permuted(order, axis=1)
        return [self._statistics(places < size) for size in sizes]

    def _statistics(self, chosen: np.ndarray) -> Floats:
        window, flags = chosen.astype(np.float32), chosen.astype(np.float64)
        mass = flags @ self.masses
        mass_pairs = mass**2 - flags @ self.masses**2
        rest = self.masses.sum() - mass
        rest_pairs = rest**2 - (1.0 - flags) @ self.masses**2
        spread = flags @ self.spreads
        own_size = spread / mass[:, None] ** 2
        rest_size = (self.spreads.sum(axis=0) - spread) / rest[:, None] ** 2
        inverse = own_size + rest_size
        own = flags @ self.squares
        others = self.squares.sum(axis=0) - own
        statistics = np.empty(inverse.shape)
        for g, table in enumerate(self.tables):
            sums = window @ table
            if self.peaked[g]:
                # Sums about the fold's mean add to zero: the rest's are the window's, negated.
                growth = growths(
                    self.shares[g] + sums / mass[:, None],
                    own_size[:, g],
                    self.shares[g] - sums / rest[:, None],
                    rest_size[:, g],
                )
                statistics[:, g] = growth.max(axis=1) / np.sqrt(inverse[:, g])
                continue
            other = window if self.multiplied[g] else sums
            product = np.einsum("bi,bi->b", sums, other, dtype=np.float64)
            statistics[:, g] = (
                (product - own[:, g]) / mass_pairs
                + 2.0 * product / (mass * rest)
                + (product - others[:, g]) / rest_pairs
            ) / inverse[:, g]
        return statistics

    def forms(self, *, groups: int, draws: int, rng: np.random.Generator) -> Singles:
        """Return forms of independent means of random signs, [draws, groups, groups, G].

        With signs s_a, the sum over patients of s_a S is close to a normal vector with
        the covariance of S (the multiplier bootstrap), and independent between groups.
        Entry (a, b) is the inner product of two such sums over pairs of different
        patients, in variances of one: mean zero, and trace-free for a = b. A peaked member
        has no such form, and zeros.
        """
        signs = rng.integers(0, 2, size=(draws * groups, self.patients)).astype(np.float32)
        signs = signs * 2 - 1
        forms = np.zeros((draws, groups, groups, len(self.tables)), dtype=np.float32)
        for g, table in enumerate(self.tables):
            if self.peaked[g]:
                continue
            sums = (signs @ table).reshape(draws, groups, -1)
            other = signs.reshape(draws, groups, -1) if self.multiplied[g] else sums
            trace = float(self.squares[:, g].sum())
            own = np.eye(groups, dtype=np.float32) * np.float32(trace)
            products = sums @ other.transpose(0, 2, 1)
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
    #: patients that the draws came from
    patients: int

    @classmethod
    def draw(
        cls,
        folds: Sequence[FoldSums],
        *,
        weights: Floats,
        draws: int,
        rng: np.random.Generator,
    ) -> NullTable:
        """Draw the null, the same number of times in each fold."""
        largest = min(fold.patients for fold in folds) // 2
        sizes = sorted({min(size, largest) for size in _SIZES})
        each = -(-draws // len(folds))
        by_fold = [fold.draw(sizes, draws=each, rng=rng) for fold in folds]
        tails: list[Tails] = []
        combined: list[Floats] = []
        for drawn in (np.concatenate(parts) for parts in zip(*by_fold, strict=True)):
            tails.append(Tails.of(drawn))
            combined.append(np.sort(evidence(tails[-1].log_p(drawn), weights)))
        return cls(
            sizes=np.asarray(sizes, dtype=np.int64),
            means=np.stack([tail.means for tail in tails]),
            deviations=np.stack([tail.deviations for tail in tails]),
            skewnesses=np.stack([tail.skewnesses for tail in tails]),
            evidence=np.stack(combined),
            patients=sum(fold.patients for fold in folds),
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
