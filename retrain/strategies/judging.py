"""How good margins are, as every strategy judges its candidates; no network is needed for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.statistics.performance.discrimination import auc


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How good a network is on what it is chosen by."""

    #: the smaller, the better
    loss: float
    selection_auc: float


def judged(margins: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> Judged:
    """Return cross-entropy and AUC of margins, uncalibrated."""
    signs = np.where(targets == 1, 1.0, -1.0)
    loss = float(np.mean(np.logaddexp(0.0, -signs * margins)))
    return Judged(loss=loss, selection_auc=auc(margins, targets))
