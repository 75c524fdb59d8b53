"""How the pixels' measures moved against a reference's.

Each measure is turned into the normal score of its rank among the reference's scans, so that
no measure has units and no scan decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Patients
from registry.errors import BadInputError

_QUANTILE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelReference:
    """The distribution of pixel measures over a reference."""

    #: [N, m] each column rising
    measures: Floats
    #: [2, m] mean normal scores of scans without and with the finding
    centres: Floats
    names: tuple[str, ...]
    #: [m] what each is a measure of
    aspects: tuple[str, ...]

    @classmethod
    def fit(
        cls, measures: Floats, finding: Floats, *, names: Sequence[str], aspects: Sequence[str]
    ) -> PixelReference:
        """Keep the measures [N, m] of reference scans, by finding [N].

        Raises
        ------
        BadInputError
            If names, aspects and measures do not go together.
        """
        if not measures.shape[1] == len(names) == len(aspects):
            raise BadInputError(
                f"{measures.shape[1]} pixel measures came with {len(names)} names and "
                f"{len(aspects)} aspects: pass one of each"
            )
        ordered = np.sort(measures, axis=0)
        scores = _normal_scores(measures, ordered)
        shares = np.stack([1.0 - finding, finding])
        return cls(
            measures=ordered,
            centres=shares @ scores / shares.sum(axis=1, keepdims=True),
            names=tuple(names),
            aspects=tuple(aspects),
        )

    def normal_scores(self, measures: Floats) -> Floats:
        """Return the normal score of each measure's rank among the reference's, [n, m]."""
        if measures.ndim != 2 or measures.shape[1] != len(self.names):
            raise BadInputError(
                f"the window has pixel measures of shape {list(measures.shape)} and the "
                f"reference {len(self.names)} of each scan: measure both by the same version"
            )
        return _normal_scores(measures, self.measures)

    def beyond(self, measures: Floats) -> Floats:
        """Return the share of measures that lie beyond every reference scan's, [n]."""
        outside = (measures < self.measures[0]) | (measures > self.measures[-1])
        return np.asarray(outside.mean(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelShift:
    """How a window's pixels differ."""

    #: by measure, in normal scores: mean displacement, before and after the prevalence is
    #: accounted for
    shifts: Floats
    residuals: Floats
    #: one standard error of these
    error: float
    #: of the measure that moved most: displacement of the quarter of scans that moved least,
    #: over that of the quarter that moved most; near 1 where all moved alike
    alike: float
    #: of scans, the share of which some measure lies beyond every reference scan's, and the
    #: mean share of measures of which that is so
    scans_beyond: float
    measures_beyond: float
    #: name of the measure that moved most
    leading: str


def pixel_shift(
    reference: PixelReference, measures: Floats, patients: Patients, *, prevalence: float
) -> PixelShift:
    """Compare a window's measures [n, m] with the reference's.

    `prevalence` is that of the window. A patient's scans count as one.
    """
    scores = reference.normal_scores(measures)
    by_patient = patients.sums(scores.astype(np.float32)) / patients.scans[:, None]
    means = by_patient.mean(axis=0, dtype=np.float64)
    size = len(reference.measures)
    shares = np.array([1.0 - prevalence, prevalence])
    leading = int(np.abs(means).argmax())
    oriented = np.sort(scores[:, leading] * np.sign(means[leading] or 1.0))
    expected = ndtri((np.arange(len(oriented)) + 0.5) / len(oriented))
    quarter = max(1, round(_QUANTILE * len(oriented)))
    moved = oriented - expected
    least, most = float(moved[:quarter].mean()), float(moved[-quarter:].mean())
    beyond = reference.beyond(measures)
    return PixelShift(
        shifts=means,
        residuals=means - shares @ reference.centres,
        error=float(np.sqrt(1.0 / patients.count + 1.0 / size)),
        alike=float(np.clip(least / max(most, 0.1), -1.0, 3.0)),
        scans_beyond=float(np.mean(beyond > 0)),
        measures_beyond=float(beyond.mean()),
        leading=reference.names[leading],
    )


def _normal_scores(measures: Floats, ordered: Floats) -> Floats:
    """Return normal scores of midranks among rising columns."""
    size = len(ordered)
    ranks = np.empty(measures.shape)
    for j in range(measures.shape[1]):
        below = np.searchsorted(ordered[:, j], measures[:, j], side="left")
        upto = np.searchsorted(ordered[:, j], measures[:, j], side="right")
        ranks[:, j] = 0.5 * (below + upto)
    scores: Floats = ndtri((ranks + 0.5) / (size + 1.0))
    return scores
