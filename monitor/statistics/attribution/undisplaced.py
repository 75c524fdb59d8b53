"""What probabilities say of the scans that a shift left where they were.

Where other scans come among those that came before, as from another population, the others'
probabilities look like a new prevalence. But the scans that are not displaced are still those
of the reference's patients: whether their prevalence changed tells the two apart. Calibrated
probabilities stay calibrated in every part of the space that is chosen by the embedding, so
that the likeliest prevalence of a part is found as that of the whole, against the same part of
the reference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from monitor.statistics.attribution.coherence import Coherence
from monitor.statistics.attribution.findings import prevalence_error
from monitor.statistics.embeddings import Floats
from monitor.statistics.performance.label_shift import likeliest_prevalence

#: fewest scans of a part, in the window and in the reference
LEAST = 12
#: part of the reference that is compared: the half that lies nearer
_HALF = 0.5


def undisplaced(
    probabilities: Floats,
    distances: Floats,
    along: Coherence,
    *,
    reference: Floats,
    reference_distances: Floats,
    sample: Floats,
) -> Iterator[tuple[str, float, float]]:
    """Yield name, change of prevalence and its standard errors by part of a window's scans.

    0 and 0 where a part has too few scans to tell.

    Parameters
    ----------
    probabilities : [n] of the finding, calibrated
    distances : [n, 3] how far out each scan lies
    along : each scan's displacement along the window's shift
    reference, reference_distances : [N] and [N, 3] the same of the reference's scans
    sample : [m] probabilities of the reference's scans that were laid along the shift
    """
    own, theirs = distances.mean(axis=1), reference_distances.mean(axis=1)
    cut = float(np.quantile(theirs, _HALF))
    yield "near", *_change(probabilities[own <= cut], [reference[theirs <= cut]])
    cuts = np.quantile(along.reference, _HALF, axis=0)
    lower = [sample[column <= at] for column, at in zip(along.reference.T, cuts, strict=True)]
    yield "not displaced", *_change(probabilities[along.scores <= cuts[along.fold]], lower)
    half = along.scores <= np.quantile(along.scores, _HALF)
    yield "least displaced", *_change(probabilities[half], lower)


def _change(own: Floats, reference: list[Floats]) -> tuple[float, float]:
    """Return the change of prevalence, and the same in standard errors."""
    theirs = np.concatenate(reference)
    if min(len(own), len(theirs) // len(reference)) < LEAST:
        return 0.0, 0.0
    before = float(np.clip(theirs.mean(), 0.01, 0.99))
    found = float(likeliest_prevalence(own, before=before, weights=np.ones((1, len(own))))[0])
    error = prevalence_error(own, theirs, before=before, found=found, times=len(reference))
    return found - before, (found - before) / error
