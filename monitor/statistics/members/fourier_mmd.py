"""Maximum mean discrepancy by random Fourier features.

The squared distance of mean features estimates the MMD of the Gaussian kernel
exp(-|x - y|^2 / 2 sigma^2): Rahimi & Recht (2007), *Random features for large-scale kernel
machines*; Gretton et al. (2012), JMLR 13:723-773. A check then costs as much for a million
reference scans as for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Singles
from monitor.statistics.members.member import Member


class Space(StrEnum):
    """The coordinates in which a kernel measures distance."""

    #: embeddings as they are
    RAW = "raw"
    #: leading principal directions of the shaping patients, in standard deviations
    LEADING = "leading"
    #: all principal directions, in standard deviations, each scan brought to one length
    WHITENED = "whitened"


@dataclass(frozen=True, slots=True, kw_only=True)
class FourierMMD(Member):
    """Cosines and sines of random projections; the effect is the MMD itself.

    Reference scans keep their features: the frequencies are drawn, not fitted, and a
    whitened scan keeps its direction when it leaves the fit (Sherman & Morrison 1950).
    """

    space: Space
    #: [k, m] standard normal draws, k the dimension of the space; one set for each space
    frequencies: Singles
    #: the space's typical distance, in its units: sigma of the kernel
    bandwidth: float
    #: half of that bandwidth, so phases of twice the size
    doubled: bool = False
    #: [d] inverse standard deviations along the principal directions, where whitened
    precisions: Singles | None = None

    @property
    def size(self) -> int:
        return 2 * int(self.frequencies.shape[1])

    @property
    def split(self) -> bool:
        """Only leading directions bend to the scans they were found on."""
        return self.space is Space.LEADING

    @property
    def whitened(self) -> int:
        return len(self.frequencies) if self.space is Space.WHITENED else 0

    def features(self, at: Coordinates) -> Singles:
        """Return [n, 2m]; each row has length one."""
        # Members of one space differ in their bandwidth only, and share its waves.
        if self.space not in at.waves:
            points = located(at, self.space, len(self.frequencies), self.precisions)
            phases = points @ (self.frequencies / np.float32(self.bandwidth))
            at.waves[self.space] = (np.cos(phases), np.sin(phases))
        cosines, sines = at.waves[self.space]
        half = cosines.shape[1]
        features = np.empty((len(cosines), 2 * half), dtype=np.float32)
        if self.doubled:
            # cos 2a = 2 cos^2 a - 1 and sin 2a = 2 sin a cos a cost less than waves do.
            np.multiply(cosines, cosines, out=features[:, :half])
            features[:, :half] *= np.float32(2.0)
            features[:, :half] -= np.float32(1.0)
            np.multiply(sines, cosines, out=features[:, half:])
            features[:, half:] *= np.float32(2.0)
        else:
            features[:, :half], features[:, half:] = cosines, sines
        features *= np.float32(1.0 / np.sqrt(half))
        return features


def located(
    at: Coordinates, space: Space, dimension: int, precisions: Singles | None
) -> Singles:
    """Return scans in the first coordinates of a space, [n, dimension]."""
    if space is Space.RAW:
        return at.centred
    if space is Space.LEADING:
        return at.leading[:, :dimension]
    white: Singles = at.principal if precisions is None else at.principal * precisions
    lengths = np.sqrt(np.einsum("ij,ij->i", white, white))
    located: Singles = (
        white * (np.float32(np.sqrt(dimension)) / np.maximum(lengths, 1e-12))[:, None]
    )
    return located
