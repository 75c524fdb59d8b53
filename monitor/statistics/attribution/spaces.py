"""A reference in one embedding space, and a window's scans as seen from there.

What is needed of a scan is computed once; windows and parts of windows are sums over scans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.members.log_mahalanobis import LogMahalanobis, log_distances
from monitor.statistics.members.novelty import Novelty, log_nearest
from monitor.statistics.members.residual import Residual, log_residuals
from monitor.statistics.patients import Patients
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.two_sample import Layout
from registry.errors import BadInputError, InsufficientDataError

#: the member whose features are whitened scans of length one, along all directions
WHITENED = "whitened-mean-all"
#: scores of how far out a scan lies: from the nearest scan seen before, from the leading
#: directions, from the centre
DISTANCES = ("nearest", "outside", "centre")
#: reference scans from which the distribution along a direction is read
SAMPLE = 1000
_CHUNK = 2048
#: fewest reference scans with and without the finding
LEAST_OF_CLASS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenScans:
    """Scans as seen from a reference."""

    #: [n, D] of the portfolio's members, side by side
    features: Singles
    #: [n, 3] distances in the order of `DISTANCES`: 0 at the reference's median, 1 where 97.5 %
    #: of its scans lie nearer
    distances: Floats

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, chosen: Integers) -> SeenScans:
        """Return some of the scans."""
        return SeenScans(features=self.features[chosen], distances=self.distances[chosen])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpaceReference:
    """What is known of a reference in one space, with and without a finding."""

    portfolio: Portfolio
    layout: Layout
    #: names of the members, in the order of the layout
    names: tuple[str, ...]
    #: [2, D] mean features of scans without and with the finding
    centres: Floats
    #: [2, G] 1 / effective number of such scans
    inverse_sizes: Floats
    #: share of the reference's scans with the finding
    prevalence: float
    #: [m, d] whitened features of some scans, and [m] which of the reference's they are
    sample: Singles
    sample_rows: Integers

    @classmethod
    def fit(
        cls,
        portfolio: Portfolio,
        embeddings: Singles,
        patients: Patients,
        finding: Floats,
        *,
        fitted_on: int | None = None,
        seed: int,
    ) -> SpaceReference:
        """Average a reference's features by finding.

        Maps that bend to the scans they were fitted on give these other features than new
        scans. The portfolio's own centre knows of that, and the averages here are moved
        together so that they make it up.

        Parameters
        ----------
        portfolio : fitted on the reference
        embeddings : [N, d] of the same reference
        patients : whose scans they are
        finding : [N] 1 with the finding, 0 without it; or its probability, where no label is
        fitted_on : scans that the portfolio was fitted on, these N among them; N by default

        Raises
        ------
        BadInputError
            If findings and embeddings do not go together.
        InsufficientDataError
            If fewer than 20 scans have the finding, or are without it.
        """
        if finding.shape != (len(embeddings),) or len(patients.codes) != len(embeddings):
            raise BadInputError(
                f"{len(embeddings)} reference embeddings came with {len(finding)} findings and "
                f"{len(patients.codes)} patients: pass one of each for every scan"
            )
        members = portfolio.members
        layout = Layout.of(members)
        shares = np.stack([1.0 - finding, finding])
        if float(shares.sum(axis=1).min()) < LEAST_OF_CLASS:
            raise InsufficientDataError(
                what="reference scans with and without the finding, each",
                needed=LEAST_OF_CLASS,
                got=int(shares.sum(axis=1).min()),
            )
        weights = shares * patients.weights(portfolio.dependence.pooled)[patients.codes]
        total = np.zeros((2, int(layout.edges[-1])))
        kept = np.random.default_rng(seed).permutation(len(embeddings))[:SAMPLE]
        whitened = layout.part([member.name for member in members].index(WHITENED))
        sample = np.empty((len(kept), whitened.stop - whitened.start), dtype=np.float32)
        for start in range(0, len(embeddings), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(embeddings)))
            at = portfolio.fit.frame.coordinates(embeddings[rows])
            own = patients.subset(rows)
            features = np.concatenate(
                [
                    member.left_out_features(at, own, fitted_on or len(embeddings))
                    for member in members
                ],
                axis=1,
            )
            total += weights[:, rows] @ features
            inside = (kept >= start) & (kept < start + len(rows))
            sample[inside] = features[kept[inside] - start, whitened]
        masses = weights.sum(axis=1)
        centres = total / masses[:, None]
        prevalence = float(masses[1] / masses.sum())
        pooled = (1.0 - prevalence) * centres[0] + prevalence * centres[1]
        # The share of the reference's information that a class has.
        parts = masses / masses.sum()
        return cls(
            portfolio=portfolio,
            layout=layout,
            names=tuple(member.name for member in members),
            centres=centres + (portfolio.centre - pooled),
            inverse_sizes=portfolio.inverse_sizes / parts[:, None],
            prevalence=prevalence,
            sample=sample,
            sample_rows=kept,
        )

    @property
    def whitened(self) -> slice:
        """Columns of the whitened features of length one."""
        return self.layout.part(self.names.index(WHITENED))

    def see(self, embeddings: Singles) -> SeenScans:
        """Return scans [n, d] as seen from the reference."""
        parts = [
            self._seen(embeddings[i : i + _CHUNK]) for i in range(0, len(embeddings), _CHUNK)
        ]
        return SeenScans(
            features=np.concatenate([part.features for part in parts]),
            distances=np.concatenate([part.distances for part in parts]),
        )

    def _seen(self, embeddings: Singles) -> SeenScans:
        members = self.portfolio.members
        at = self.portfolio.fit.frame.coordinates(embeddings)
        finest = next(m for m in members if isinstance(m, LogMahalanobis))
        residual = next(m for m in members if isinstance(m, Residual))
        novelty = next(m for m in members if isinstance(m, Novelty))
        distances = np.stack(
            [
                _standardised(log_nearest(at, novelty.landmarks), novelty.scores),
                _standardised(log_residuals(at), residual.scores),
                _standardised(log_distances(at.principal, finest.precisions), finest.scores),
            ],
            axis=1,
        )
        return SeenScans(
            features=np.concatenate([member.features(at) for member in members], axis=1),
            distances=distances,
        )

    def centre(self, prevalence: float) -> tuple[Floats, Floats]:
        """Return the reference at another prevalence: mean features [D], 1 / sizes [G].

        Classes keep their features and change their shares, as label shift has it.
        """
        shares = np.array([1.0 - prevalence, prevalence])
        return shares @ self.centres, np.square(shares) @ self.inverse_sizes


def _standardised(scores: Floats, reference: Floats) -> Floats:
    """Return scores on the scale of the reference's (rising): its median 0, its 97.5 % 1."""
    median, high = np.quantile(reference, (0.5, 0.975))
    return np.asarray((scores - median) / max(float(high - median), 1e-9))
