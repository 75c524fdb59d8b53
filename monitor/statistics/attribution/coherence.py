"""Whether all scans are displaced alike, or a few of them far.

The direction of the shift is found on four fifths of the window's patients, and the others
are laid along it, beside the reference's scans. A change of the image chain moves the whole
distribution along it, its lower end too; a new kind of scan leaves the lower part where it
was, as large as the share of scans that are not of the new kind; another mix of the same
scans moves weight between places that the reference knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.attribution.spaces import SeenScans, SpaceReference
from monitor.statistics.embeddings import Floats, Integers, Singles
from monitor.statistics.patients import Patients

_FOLDS = 5
#: quantiles of the reference at which the lower part is looked at
UNTOUCHED_AT = (0.1, 0.25, 0.5)
_QUANTILES = (0.1, 0.5, 0.9)
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """The window along the direction of its shift, in deviations of the reference."""

    #: mean displacement
    mean: float
    #: log of the ratio of standard deviations
    spread: float
    #: [3] displacement of the lower end, the middle and the upper end (10, 50, 90 %)
    quantiles: Floats
    #: [3] share of scans below the reference's 10, 25 and 50 %, over what is expected there
    untouched: Floats
    #: [n] of each scan, and the fold that its patient is in
    scores: Floats
    fold: Integers
    #: [m, folds] of the reference's scans along the direction that each fold is laid along
    reference: Floats

    @property
    def lower_over_upper(self) -> float:
        """How much of the upper end's displacement the lower end shares, -1 .. 2."""
        lower, _, upper = self.quantiles
        return float(np.clip(lower / max(float(upper), 0.25), -1.0, 2.0))


def coherence(
    space: SpaceReference, seen: SeenScans, patients: Patients, *, seed: int = 0
) -> Coherence:
    """Lay a window's scans along the direction of its shift, found on other patients.

    Parameters
    ----------
    seen : [n]
    patients : whose scans they are; five at least
    seed : of the folds
    """
    part = space.whitened
    centre = space.portfolio.centre[part]
    features: Singles = seen.features[:, part] - centre
    fold = (np.random.default_rng(seed).permutation(patients.count) % _FOLDS)[patients.codes]
    inside = (fold == np.arange(_FOLDS)[:, None]).astype(np.float32)
    own = inside @ features
    directions = own.sum(axis=0) - own
    directions /= np.maximum(np.linalg.norm(directions, axis=1), _LEAST)[:, None]
    reference = (space.sample - centre) @ directions.T
    middles, deviations = reference.mean(axis=0), np.maximum(reference.std(axis=0), _LEAST)
    own_scores = ((reference - middles) / deviations).astype(np.float64)
    along = np.sort(own_scores, axis=None)
    mine = np.einsum("ij,ij->i", features, directions[fold])
    scores = ((mine - middles[fold]) / deviations[fold]).astype(np.float64)
    cuts = np.quantile(along, UNTOUCHED_AT)
    return Coherence(
        mean=float(scores.mean()),
        spread=float(np.log(max(float(scores.std()), _LEAST))),
        quantiles=np.quantile(scores, _QUANTILES) - np.quantile(along, _QUANTILES),
        untouched=np.array([np.mean(scores <= cut) for cut in cuts]) / np.array(UNTOUCHED_AT),
        scores=scores,
        fold=fold,
        reference=own_scores,
    )
