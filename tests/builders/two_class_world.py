"""A small world of embeddings with and without a finding, its reference, and its windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from monitor.profiles import ReferenceProfile
from monitor.statistics.attribution.findings import FindingReference
from monitor.statistics.attribution.spaces import SpaceReference
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.patients import Patients
from monitor.statistics.performance.recalibration import CalibratedReference

DIMENSION = 24
PREVALENCE = 0.4
REFERENCE = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Scans of the world."""

    embeddings: Singles
    #: [n] 0 or 1
    finding: Floats
    #: [n] what a champion says, not yet calibrated
    scores: Floats


def drawn(scans: int, rng: np.random.Generator, *, prevalence: float = PREVALENCE) -> Drawn:
    """Draw scans; classes lie 2.2 deviations apart along the first axis."""
    finding = (rng.random(scans) < prevalence).astype(np.float64)
    embeddings = rng.standard_normal((scans, DIMENSION)) * np.arange(DIMENSION, 0, -1) ** 0.5
    embeddings[:, 0] += 2.2 * DIMENSION**0.5 * (finding - 0.5)
    return Drawn(
        embeddings=embeddings.astype(np.float32),
        finding=finding,
        scores=said(embeddings.astype(np.float32)),
    )


def said(embeddings: npt.NDArray[np.floating]) -> Floats:
    """Return what the champion says: overconfident, and for balanced classes."""
    return np.asarray(expit(3.0 * embeddings[:, 0].astype(np.float64) / DIMENSION**0.5))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """The world's reference."""

    scans: Drawn
    profile: ReferenceProfile
    space: SpaceReference
    calibrated: CalibratedReference
    finding: FindingReference

    def probabilities(self, scans: Drawn) -> Floats:
        """Return calibrated probabilities."""
        return self.calibrated.probabilities(scans.scores)


@cache
def known() -> Known:
    """Fit the reference, once for all tests."""
    scans = drawn(REFERENCE, np.random.default_rng(0))
    profile = ReferenceProfile.fit(scans.embeddings, seed=0)
    patients = Patients.of(None, scans=REFERENCE)
    space = SpaceReference.fit(
        profile.portfolio, scans.embeddings, patients, scans.finding, seed=0
    )
    calibrated = CalibratedReference.fit(scans.scores, scans.finding.astype(int), seed=0)
    return Known(
        scans=scans,
        profile=profile,
        space=space,
        calibrated=calibrated,
        finding=FindingReference.fit(
            space,
            space.see(scans.embeddings),
            calibrated.probabilities(scans.scores),
            scans.finding,
        ),
    )


def each_its_own(scans: int) -> Patients:
    """Return the grouping in which every scan is a patient."""
    return Patients.of(None, scans=scans)
