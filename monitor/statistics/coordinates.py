"""Scans as seen from a reference: what the members' maps start from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.subspace import Subspace
from monitor.statistics.whitening import Eigenbasis


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Scans as seen from a reference."""

    #: [n, d] in units of the reference's size, about its mean
    centred: Singles
    #: [n, d] the same along the reference's principal directions
    principal: Singles
    #: [n, q] along the subspace's directions, in standard deviations
    leading: Singles
    #: [n] squared length outside the leading directions that make up the inside
    outside: Floats
    #: cosines and sines [n, m] of random projections by space, filled by who needs them first
    waves: dict[str, tuple[Singles, Singles]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A reference's principal directions, and those of its shaping patients."""

    basis: Eigenbasis
    subspace: Subspace

    def coordinates(self, embeddings: Singles) -> Coordinates:
        """Return the coordinates of embeddings [n, d]."""
        basis, subspace = self.basis, self.subspace
        centred = basis.centred(embeddings)
        moved = centred - ((subspace.mean - basis.mean) / np.float32(basis.unit))
        components = moved @ subspace.directions
        outside = np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
        inside = components[:, : subspace.inside]
        outside -= np.einsum("ij,ij->i", inside, inside, dtype=np.float64)
        return Coordinates(
            centred=centred,
            principal=basis.principal(centred),
            leading=components / subspace.deviations,
            outside=outside,
        )
