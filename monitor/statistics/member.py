"""What a member of the portfolio is: a map of scans to bounded features.

Each member tests whether window and reference have the same mean feature.
"""

from __future__ import annotations

from typing import Protocol

from monitor.statistics.embeddings import Singles
from monitor.statistics.patients import Patients
from monitor.statistics.whitening import Coordinates


class Member(Protocol):
    """A map of scans to features whose mean is compared."""

    @property
    def name(self) -> str:
        """The name that verdicts carry."""

    @property
    def size(self) -> int:
        """Number of features."""

    @property
    def weight(self) -> float:
        """Say in the portfolio; 0 for a description that has none."""

    @property
    def scale(self) -> float:
        """What the square root of the statistic is multiplied with to give an effect."""

    def features(self, at: Coordinates) -> Singles:
        """Return the features [n, size] of scans that the map was not fitted on."""

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:
        """Return the features [n, size] of scans that the map was fitted on.

        They must be distributed as if each scan's patient had been left out of the fit.

        Parameters
        ----------
        at : all scans of some patients
        patients : whose scans they are
        scans : number of scans that the map was fitted on
        """
