"""How far each member of the portfolio moved, before and after the prevalence is accounted for.

A member's statistic T is compared with what it is when nothing shifted: standardised by the
null's mean and deviation at the window's size. Under label shift the mean features of a
window are those of the two classes in other shares, so that against a reference in these
shares nothing has moved (Lipton, Wang & Smola 2018, ICML 80:3122-3130, for a classifier's
outputs; here for every member).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.attribution.spaces import WHITENED, SeenScans, SpaceReference
from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import PatientSums, growths

#: ends of the bands of whitened directions in which a shift of the mean is located
BANDS = (16, 64, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSums:
    """Sums over a window's patients, from which its shift from any centre follows.

    Of patient sums S with masses A: sum S, sum S^2 and sum A S, feature by feature, so that
    the U-statistic about a centre c is ((sum S - c sum A)^2 - sum (S - c A)^2) / pairs.
    """

    #: [D] each
    total: Floats
    squares: Floats
    crossed: Floats
    #: sum of A and of A^2
    mass: float
    squared_mass: float
    #: [G] 1 / effective number of scans
    inverse_sizes: Floats
    patients: int

    @classmethod
    def of(cls, space: SpaceReference, seen: SeenScans, patients: Patients) -> FeatureSums:
        """Sum a window's features as the portfolio weighs them."""
        sums = PatientSums.of(seen.features, patients, space.portfolio.dependence)
        masses = sums.masses
        return cls(
            total=sums.sums.sum(axis=0, dtype=np.float64),
            squares=np.einsum("ij,ij->j", sums.sums, sums.sums).astype(np.float64),
            crossed=np.asarray(masses.astype(np.float32) @ sums.sums, dtype=np.float64),
            mass=float(masses.sum()),
            squared_mass=float(np.square(masses).sum()),
            inverse_sizes=sums.inverse_sizes,
            patients=patients.count,
        )

    @property
    def mean(self) -> Floats:
        """Weighted mean of the features, [D]."""
        return np.asarray(self.total / self.mass)

    def squared(self, centre: Floats) -> Floats:
        """Return the unbiased squared shift from a centre [D] that is known, by feature, [D]."""
        own = self.squares - 2.0 * centre * self.crossed + centre**2 * self.squared_mass
        pairs = self.mass**2 - self.squared_mass
        return np.asarray(((self.total - centre * self.mass) ** 2 - own) / pairs)


def statistics(space: SpaceReference, sums: FeatureSums, *, prevalence: float) -> Floats:
    """Return T by member, [G], against the reference at a prevalence.

    At the reference's own prevalence these are what the portfolio's p-value rests on.
    """
    portfolio, layout = space.portfolio, space.layout
    centre, inverse_sizes = space.centre(prevalence)
    squared = layout.added(sums.squared(centre)) - portfolio.traces * inverse_sizes
    inverse = sums.inverse_sizes + inverse_sizes
    found: Floats = squared / inverse
    for g in np.flatnonzero(layout.peaked).tolist():
        part = layout.part(g)
        growth = growths(sums.mean[part], sums.inverse_sizes[g], centre[part], inverse_sizes[g])
        found[g] = growth.max() / np.sqrt(inverse[g])
    return found


def standardised_shifts(
    space: SpaceReference, sums: FeatureSums, *, prevalence: float
) -> Floats:
    """Return each member's shift in deviations of its null, [G]; see `statistics`."""
    found = statistics(space, sums, prevalence=prevalence)
    standard = np.zeros(len(found))
    for index, share in space.portfolio.null.neighbours(sums.patients):
        tails = space.portfolio.null.tails(index)
        standard += share * (found - tails.means) / tails.deviations
    return standard


def squared_shifts_by_band(
    space: SpaceReference, sums: FeatureSums, *, prevalence: float
) -> Floats:
    """Return the unbiased squared shift of whitened scans by band of directions, [4].

    In variances of a scan, so that a shift of one standard deviation along each direction
    of a band of p gives p. Bands hold the directions 1 to 16, to 64, to 256, and the rest;
    what a space is too small for is 0.
    """
    part = space.whitened
    centre, inverse_sizes = space.centre(prevalence)
    by_direction = sums.squared(centre)[part]
    # A scan of length one has its variance in all directions alike.
    by_direction -= inverse_sizes[space.names.index(WHITENED)] / len(by_direction)
    edges = [0, *(end for end in BANDS if end < len(by_direction)), len(by_direction)]
    bands = np.add.reduceat(by_direction, edges[:-1]) * len(by_direction)
    return np.concatenate([bands[:-1], np.zeros(len(BANDS) + 1 - len(bands)), bands[-1:]])


def signed_log(value: float) -> float:
    """Return sign(v) log(1 + |v|): large shifts differ by factors, small ones by amounts."""
    return float(np.sign(value) * np.log1p(abs(value)))
