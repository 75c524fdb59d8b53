"""Synthetic worlds of embeddings, and what can happen in them.

A world has clusters of scans, a falling spectrum of variances and heavy-tailed lengths, in
random orientation. Shifts move a window away from it; week effects move every window a
little, harmlessly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

#: shifts of every world: a mean along a few of all directions, a mean along the first ones,
#: a change of scale within clusters, a new subpopulation of 10 %, one small cluster doubled
SHIFTS = ("b", "btop", "c", "d", "e")
_UNIT = np.float32(10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A distribution of embeddings."""

    name: str
    dimension: int
    #: variances fall as 1 / i to this power
    exponent: float
    clusters: int
    #: share of the variance that lies between clusters
    between: float
    #: standard deviation of the logarithm of a scan's length within its cluster
    radius: float
    #: shifts of the mean, in standard deviations: along 5 % of all directions, and of the first
    mean_shift: float
    top_shift: float
    #: factor of the variance within clusters
    scale_shift: float
    seed: int
    #: share of a patient's variance within a cluster that its scans have in common
    alike: float = 0.5
    _drawn: dict[str, npt.NDArray[np.floating]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        d, k = self.dimension, self.clusters
        variances = np.arange(1, d + 1) ** -self.exponent
        variances /= variances.sum()
        centres = rng.standard_normal((k + 1, d)) * np.sqrt(self.between * variances)
        self._drawn.update(
            rotation=np.linalg.qr(rng.standard_normal((d, d)))[0].T.astype(np.float32),
            deviations=np.sqrt(variances).astype(np.float32),
            within=np.sqrt((1.0 - self.between) * variances).astype(np.float32),
            # The last one is the subpopulation that is not there yet.
            centres=centres.astype(np.float32),
            prevalences=rng.dirichlet(np.full(k, 3.0)),
            directions=np.sort(rng.permutation(d)[: self.moved]),
        )

    @property
    def moved(self) -> int:
        """Directions along which the mean moves."""
        return max(1, round(0.05 * self.dimension))

    @property
    def prevalences(self) -> npt.NDArray[np.float64]:
        return np.asarray(self._drawn["prevalences"], dtype=np.float64)

    @property
    def growing(self) -> int:
        """The cluster that doubles: the one closest to 5 %."""
        return int(np.argmin(np.abs(self.prevalences - 0.05)))

    def shifted_prevalences(self, shift: str) -> npt.NDArray[np.float64]:
        prevalences = self.prevalences.copy()
        if shift == "e":
            prevalences[self.growing] *= 2.0
        return prevalences / prevalences.sum()

    def scans(
        self, count: int, rng: np.random.Generator, shift: str = "none"
    ) -> npt.NDArray[np.float32]:
        """Draw scans of as many patients, [count, d]."""
        return self.labelled(count, rng, shift)[0]

    def labelled(
        self, count: int, rng: np.random.Generator, shift: str = "none"
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Draw scans beside their clusters."""
        cluster = self._clusters(count, rng, self.shifted_prevalences(shift), shift)
        own = self._within(count, rng)
        return self._placed(own, cluster, shift), cluster

    def patients(
        self, count: int, rng: np.random.Generator, *, mean_scans: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Draw the scans of patients, whose scans are alike, beside their patients.

        Numbers of scans follow a geometric law of the given mean.
        """
        scans = rng.geometric(1.0 / mean_scans, size=count)
        patient = np.repeat(np.arange(count), scans)
        cluster = self._clusters(count, rng, self.prevalences, "none")[patient]
        common = self._within(count, rng)[patient]
        own = self._within(len(patient), rng)
        mixed = np.sqrt(self.alike) * common + np.sqrt(1.0 - self.alike) * own
        return self._placed(mixed.astype(np.float32), cluster, "none"), patient

    def week(
        self,
        count: int,
        rng: np.random.Generator,
        *,
        offset: float,
        prevalence: float,
        rotated: bool,
    ) -> npt.NDArray[np.float32]:
        """Draw a week's scans, with effects of its own.

        Parameters
        ----------
        offset : standard deviation of the week's shift of every coordinate, in standard
            deviations of that coordinate
        prevalence : standard deviation of the logarithm of every cluster's prevalence
        rotated : whether the coordinates are those of the embedding, not the principal ones
        """
        prevalences = self.prevalences * np.exp(prevalence * rng.standard_normal(self.clusters))
        cluster = rng.choice(self.clusters, size=count, p=prevalences / prevalences.sum())
        scans = self._within(count, rng) + self._drawn["centres"][cluster]
        moved = offset * rng.standard_normal(self.dimension)
        if not rotated:
            scans = scans + (moved * self._drawn["deviations"])
        scans = scans.astype(np.float32) @ self._drawn["rotation"]
        if rotated:
            scans = scans + moved * scans.std(axis=0)
        return np.ascontiguousarray(scans * _UNIT, dtype=np.float32)

    def _clusters(
        self,
        count: int,
        rng: np.random.Generator,
        prevalences: npt.NDArray[np.float64],
        shift: str,
    ) -> npt.NDArray[np.int64]:
        cluster = rng.choice(self.clusters, size=count, p=prevalences)
        if shift == "d":
            cluster = np.where(rng.random(count) < 0.1, self.clusters, cluster)
        return cluster.astype(np.int64)

    def _within(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        lengths = np.exp(self.radius * rng.standard_normal((count, 1))).astype(np.float32)
        own = rng.standard_normal((count, self.dimension), dtype=np.float32)
        own *= self._drawn["within"]
        own *= lengths
        return own

    def _placed(
        self, own: npt.NDArray[np.float32], cluster: npt.NDArray[np.int64], shift: str
    ) -> npt.NDArray[np.float32]:
        if shift == "c":
            own = own * np.float32(np.sqrt(self.scale_shift))
        scans = own + self._drawn["centres"][cluster]
        deviations = self._drawn["deviations"]
        if shift == "b":
            along = self._drawn["directions"]
            scans[:, along] += np.float32(self.mean_shift) * deviations[along]
        if shift == "btop":
            scans[:, : self.moved] += np.float32(self.top_shift) * deviations[: self.moved]
        return np.ascontiguousarray((scans @ self._drawn["rotation"]) * _UNIT)


def worlds() -> dict[str, World]:
    """Return the worlds by name: the first is the one the goals are set in."""
    every = (
        World(
            name="broad",
            dimension=512,
            exponent=1.0,
            clusters=20,
            between=0.4,
            radius=0.15,
            mean_shift=0.15,
            top_shift=0.10,
            scale_shift=1.10,
            seed=1000,
        ),
        World(
            name="compact",
            dimension=128,
            exponent=0.5,
            clusters=8,
            between=0.5,
            radius=0.3,
            mean_shift=0.20,
            top_shift=0.16,
            scale_shift=1.22,
            seed=1001,
        ),
        World(
            name="steep",
            dimension=256,
            exponent=1.5,
            clusters=50,
            between=0.3,
            radius=0.1,
            mean_shift=0.17,
            top_shift=0.14,
            scale_shift=1.08,
            seed=1002,
        ),
    )
    return {world.name: world for world in every}
