"""Bootstrap samples of patients: how often each scan counts when patients are drawn anew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Patients
from registry.errors import BadInputError


def resampled_weights(patients: Patients, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield scans' weights [n], once for each resample of whole patients with replacement.

    Parameters
    ----------
    patients : whose scans they are
    resamples : number of resamples, at least 1
    seed : of the generator

    Raises
    ------
    BadInputError
        If no resample is asked for.
    """
    if resamples < 1:
        raise BadInputError(f"a bootstrap needs at least 1 resample, got {resamples}")
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(
            rng.integers(patients.count, size=patients.count), minlength=patients.count
        )
        yield drawn[patients.codes].astype(np.float64)
