"""What a champion's probabilities say of the shift: a new prevalence, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.attribution.spaces import SeenScans, SpaceReference
from monitor.statistics.embeddings import Floats
from monitor.statistics.performance.label_shift import likeliest_prevalence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FindingReference:
    """A champion's calibrated probabilities on the reference."""

    #: [N] and [N]: 0 without the finding, 1 with it, or its probability
    probabilities: Floats
    finding: Floats
    #: mean probability, which the likeliest prevalence of the reference itself is
    before: float
    #: [2, 2, d] mean over scans without and with the finding of whitened features times the
    #: probability of not having, and of having it
    products: Floats
    #: [2, 2] means of these probabilities, and of their squares
    masses: Floats
    squares: Floats
    #: [2] scans without and with the finding
    counts: Floats

    @classmethod
    def fit(
        cls, space: SpaceReference, seen: SeenScans, probabilities: Floats, finding: Floats
    ) -> FindingReference:
        """Average the reference's probabilities, alone and with what is seen of the scans.

        Parameters
        ----------
        space : the champion's
        seen : [N] the reference's scans, as if they were new
        probabilities : [N] calibrated
        finding : [N]
        """
        said = np.stack([1.0 - probabilities, probabilities])
        truth = np.stack([1.0 - finding, finding])
        counts = truth.sum(axis=1)
        truth = truth / counts[:, None]
        features = seen.features[:, space.whitened].astype(np.float64)
        products = np.stack([(one * said) @ features for one in truth])
        return cls(
            probabilities=probabilities,
            finding=finding,
            before=float(probabilities.mean()),
            products=products,
            masses=truth @ said.T,
            squares=truth @ np.square(said).T,
            counts=counts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingShift:
    """What the probabilities of a window say."""

    #: likeliest share with the finding if nothing else changed, and in the reference
    prevalence: float
    before: float
    #: its change in standard errors
    evidence: float
    #: Kolmogorov's distance of the probabilities in standard errors: before and after the
    #: reference is brought to this prevalence
    distance: float
    residual_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftsByFinding:
    """Displacement of scans that the champion takes for one class and the other."""

    #: [2] in standard errors, without and with the finding
    sizes: Floats
    #: cosine between the two displacements, -1 .. 1; 0 where one cannot be told from none
    cosine: float


def finding_shift(reference: FindingReference, probabilities: Floats) -> FindingShift:
    """Return what a window's calibrated probabilities [n] say."""
    n, size = len(probabilities), len(reference.probabilities)
    found = float(
        likeliest_prevalence(probabilities, before=reference.before, weights=np.ones((1, n)))[0]
    )
    weights = _brought_to(reference, found)
    effective = weights.sum() ** 2 / np.square(weights).sum()
    return FindingShift(
        prevalence=found,
        before=reference.before,
        evidence=(found - reference.before)
        / prevalence_error(
            probabilities, reference.probabilities, before=reference.before, found=found
        ),
        distance=_kolmogorov(probabilities, reference.probabilities, np.ones(size))
        * float(np.sqrt(n * size / (n + size))),
        residual_distance=_kolmogorov(probabilities, reference.probabilities, weights)
        * float(np.sqrt(n * effective / (n + effective))),
    )


def shifts_by_finding(
    space: SpaceReference,
    reference: FindingReference,
    seen: SeenScans,
    probabilities: Floats,
    *,
    prevalence: float,
) -> ShiftsByFinding:
    """Return how scans of each class moved, whatever the prevalence is.

    A scan counts for a class by the champion's probability. What the same products are in
    a reference of that prevalence is known, mistakes of the champion included, so that
    under label shift alone nothing is left. Scans are taken one by one.

    Parameters
    ----------
    space : the champion's
    seen : [n]
    probabilities : [n] calibrated
    prevalence : of the window
    """
    shares = np.array([1.0 - prevalence, prevalence])
    expected = np.einsum("y,ykd->kd", shares, reference.products)
    masses = shares @ reference.masses
    features = seen.features[:, space.whitened].astype(np.float64)
    said = np.stack([1.0 - probabilities, probabilities])
    # About each class's own mean, so that how many scans it has does not matter.
    middles = expected / masses[:, None]
    n = len(features)
    sums = said @ features - said.sum(axis=1)[:, None] * middles
    squares = np.einsum("nd,nd->n", features, features)
    along, between = features @ middles.T, middles @ middles.T
    products = np.empty((2, 2))
    for k in (0, 1):
        for m in (0, 1):
            alone = squares - along[:, k] - along[:, m] + between[k, m]
            pairs = float(sums[k] @ sums[m]) - float((said[k] * said[m]) @ alone)
            products[k, m] = pairs / (n * (n - 1))
    # Features have length one, and next to none of it in their mean.
    own = np.square(shares) @ (reference.squares / reference.counts[:, None])
    products[[0, 1], [0, 1]] -= own
    errors = np.square(said).mean(axis=1) / n + own
    # Under no shift the statistic scatters by its trace over the root of the directions.
    scatter = errors * np.sqrt(2.0 / features.shape[1])
    sizes = np.diag(products) / scatter
    lengths = np.sqrt(np.maximum(np.diag(products), 2.0 * scatter))
    return ShiftsByFinding(
        sizes=sizes,
        cosine=float(np.clip(products[0, 1] / (lengths[0] * lengths[1]), -1.0, 1.0)),
    )


def _brought_to(reference: FindingReference, prevalence: float) -> Floats:
    share = float(reference.finding.mean())
    return np.asarray(
        reference.finding * prevalence / share
        + (1.0 - reference.finding) * (1.0 - prevalence) / (1.0 - share)
    )


def prevalence_error(
    own: Floats, reference: Floats, *, before: float, found: float, times: int = 1
) -> float:
    """Return the standard error of a change to the likeliest prevalence, by Fisher's information.

    Parameters
    ----------
    own, reference : [n] and [N] probabilities of the finding, inside (0, 1)
    before, found : the prevalence in the reference, and the likeliest in the window
    times : how often each of the reference's scans is among the N
    """
    share = float(np.clip(found, 0.01, 0.99))

    def information(said: Floats, at: float) -> float:
        with_finding = said / before
        without = (1.0 - said) / (1.0 - before)
        slope = (with_finding - without) / (at * with_finding + (1.0 - at) * without)
        return float(np.square(slope).sum())

    window = information(own, share)
    theirs = information(reference, before) / times
    return float(np.sqrt(1.0 / max(window, 1e-9) + 1.0 / max(theirs, 1e-9)))


def _kolmogorov(one: Floats, other: Floats, weights: Floats) -> float:
    """Return the largest distance of distribution functions, the second one's weighted."""
    points = np.sort(np.concatenate([one, other]))
    order = np.argsort(other)
    steps = np.concatenate([[0.0], np.cumsum(weights[order]) / weights.sum()])
    theirs = steps[np.searchsorted(other[order], points, side="right")]
    ours = np.searchsorted(np.sort(one), points, side="right") / len(one)
    return float(np.abs(ours - theirs).max())
