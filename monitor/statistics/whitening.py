"""Principal directions of a reference, and the variance that new scans have along them.

The eigenvalues of a sample covariance are too spread: scans outside the sample vary more
along the smallest directions than the sample did, and a whitening by the sample's own
eigenvalues blows them up. The spectrum used here is measured on scans held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import isotonic_regression

from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from registry.errors import EmbeddingsError

# float32 squares overflow beyond 1.8e19; scans this many times as large as the reference's
# own are as far away as any statistic can tell.
_FARTHEST = np.float32(1e6)
#: The least variance that is told from rounding, relative to the largest: float32 embeddings
#: carry 24 bits, so differences of two carry about 1e-7 of the variance.
VARIANCE_FLOOR = 1e-7
# Directions averaged to each side: few enough for the spectrum to be straight over them.
_SMOOTHING_REACH = 5
_SMOOTHING_SHARE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Eigenbasis:
    """Mean, principal directions and sample variances of a set of scans."""

    #: root mean square of a reference's centred embeddings: the unit of length
    unit: float
    #: [d] in embedding units
    mean: Singles
    #: [d, d] columns are directions, by falling variance
    directions: Singles
    #: [d] sample variance along each, in squared units of length
    variances: Floats

    def centred(self, embeddings: Singles) -> Singles:
        """Return embeddings [n, d] about the mean, in units of length."""
        centred: Singles = np.subtract(embeddings, self.mean, dtype=np.float32)
        np.divide(centred, np.float32(self.unit), out=centred)
        np.clip(centred, -_FARTHEST, _FARTHEST, out=centred)
        return centred

    def principal(self, centred: Singles) -> Singles:
        """Return centred scans [n, d] along the principal directions."""
        principal: Singles = np.matmul(centred, self.directions, dtype=np.float32)
        return principal

    def leading_components(self, embeddings: Singles, *, count: int) -> Singles:
        """Return the first components of embeddings [n, d], in embedding units, [n, count]."""
        centred: Singles = np.subtract(embeddings, self.mean, dtype=np.float32)
        components: Singles = centred @ self.directions[:, :count]
        return components


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Counts, sums and products of scans by group; those of any groups together follow."""

    #: [d] what was subtracted from every scan before summing
    origin: Floats
    unit: float
    #: [K]
    counts: Integers
    #: [K, d]
    sums: Floats
    #: [K, d, d]
    products: Floats

    @classmethod
    def of(cls, embeddings: Singles, group: Integers, *, chunk: int = 8192) -> Moments:
        """Sum over scans [N, d] of the groups 0 .. K - 1 in chunks of bounded memory."""
        groups, dimension = int(group.max()) + 1, embeddings.shape[1]
        origin = embeddings.mean(axis=0, dtype=np.float64)
        spread = float(
            np.sqrt(
                sum(
                    float(np.sum((embeddings[i : i + chunk] - origin) ** 2))
                    for i in range(0, len(embeddings), chunk)
                )
                / len(embeddings)
            )
        )
        if not spread > 0:
            raise EmbeddingsError("the reference's embeddings do not vary")
        sums = np.zeros((groups, dimension))
        products = np.zeros((groups, dimension, dimension))
        for k in range(groups):
            rows = np.flatnonzero(group == k)
            for i in range(0, len(rows), chunk):
                # In float64: single products would drown the smallest directions.
                part = (embeddings[rows[i : i + chunk]] - origin) / spread
                sums[k] += part.sum(axis=0)
                products[k] += part.T @ part
        return cls(
            origin=origin,
            unit=spread,
            counts=np.bincount(group, minlength=groups).astype(np.int64),
            sums=sums,
            products=products,
        )

    def mean(self, groups: Flags) -> Floats:
        """Return the mean [d] of the scans of some groups ([K]), from the origin."""
        mean: Floats = self.sums[groups].sum(axis=0) / int(self.counts[groups].sum())
        return mean

    def covariance(self, groups: Flags) -> Floats:
        """Return the covariance [d, d] of the scans of some groups ([K])."""
        mean = self.mean(groups)
        count = int(self.counts[groups].sum())
        covariance: Floats = self.products[groups].sum(axis=0) / count - np.outer(mean, mean)
        return covariance

    def embedding(self, mean: Floats) -> Singles:
        """Return a mean from the origin, [d], in embedding units."""
        embedding: Singles = (self.origin + self.unit * mean).astype(np.float32)
        return embedding

    def basis(self, groups: Flags) -> Eigenbasis:
        """Return the eigenbasis of the scans of some groups ([K])."""
        variances, directions = eigh(self.covariance(groups), driver="evd")
        directions = signed(directions)
        return Eigenbasis(
            unit=self.unit,
            mean=self.embedding(self.mean(groups)),
            directions=np.ascontiguousarray(directions[:, ::-1], dtype=np.float32),
            variances=np.maximum(variances[::-1], 0.0),
        )


def signed(directions: Floats) -> Floats:
    """Return eigenvectors [d, q] whose largest component is positive.

    An eigenvector's sign is arbitrary, and another processor may find the other one; a
    projection that people look at, or that random frequencies meet, must not depend on it.
    """
    peaks = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return directions * np.where(peaks < 0, -1.0, 1.0)


def smooth_spectrum(held_out: Floats, *, rank: int) -> Floats:
    """Return a falling, positive spectrum from variances measured on held-out scans.

    Logarithms are averaged over neighbouring directions, directions beyond the rank of
    the fits (which know nothing of them, but that they are empty) are pooled, and the
    whole is made monotone by isotonic regression.

    Parameters
    ----------
    held_out : [d] mean over folds of the variance along directions found without the fold
    rank : directions that the fits determine, 1 .. d
    """
    logs = np.log(np.maximum(held_out, np.finfo(np.float64).tiny))
    reach = min(_SMOOTHING_REACH, len(logs) // _SMOOTHING_SHARE)
    padded = np.concatenate((np.repeat(logs[:1], reach), logs, np.repeat(logs[-1:], reach)))
    smooth = np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), mode="valid")
    # The first variances differ by factors; averaging would mix what is well known.
    smooth[:reach] = logs[:reach]
    if rank < len(logs):
        smooth[rank:] = np.log(max(float(held_out[rank:].mean()), np.finfo(np.float64).tiny))
    falling: Floats = np.exp(isotonic_regression(smooth, increasing=False).x)
    return falling.clip(min=falling[0] * VARIANCE_FLOOR)
