"""Whether one group of scans, say one scanner's, carries the displacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Flags, Floats
from monitor.statistics.patients import Identifiers, Patients

#: fewest scans of a group, and of all others, between which anything is told
LEAST_GROUP = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The group whose scans are displaced most."""

    #: [n] its scans
    inside: Flags
    #: difference of mean displacement to all others, in standard errors
    contrast: float
    #: mean displacement inside and outside, in deviations of the reference
    own: float
    others: float
    #: of all scans
    share: float


def locate(scores: Floats, groups: Identifiers | None) -> Location | None:
    """Return the group that stands out along the shift, None where there are not two.

    Parameters
    ----------
    scores : [n] displacement of each scan along the window's shift
    groups : [n] identifiers, say of scanners, or None
    """
    if groups is None:
        return None
    codes = Patients.of(groups, scans=len(scores), what="group").codes
    best: Location | None = None
    for code in np.unique(codes):
        inside = codes == code
        if min(int(inside.sum()), int((~inside).sum())) < LEAST_GROUP:
            continue
        own, others = scores[inside], scores[~inside]
        error = np.sqrt(own.var() / len(own) + others.var() / len(others))
        contrast = float((own.mean() - others.mean()) / max(float(error), 1e-9))
        if best is None or contrast > best.contrast:
            best = Location(
                inside=inside,
                contrast=contrast,
                own=float(own.mean()),
                others=float(others.mean()),
                share=float(inside.mean()),
            )
    return best
