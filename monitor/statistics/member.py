"""What a member of the portfolio is: a map of scans to bounded features.

Each member tests whether window and reference have the same mean feature.
"""

from __future__ import annotations

from typing import Protocol

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Singles
from monitor.statistics.patients import Patients


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
        """What the square root of the squared shift is multiplied with to give an effect."""

    @property
    def split(self) -> bool:
        """Whether the map was fitted on the shaping patients alone.

        A map that bends to the scans it was fitted on gives them other features than new
        scans; the reference's mean of such features is then taken over the other patients.
        """

    @property
    def peaked(self) -> bool:
        """Whether the share that grew most is tested, and not the length of the shift.

        Features are then indicators, whose means are shares.
        """

    @property
    def whitened(self) -> int:
        """Number of directions that are whitened by the fit's own scans; 0 for none."""

    def features(self, at: Coordinates) -> Singles:
        """Return the features [n, size] of scans that the map was not fitted on."""

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:
        """Return the features [n, size] of scans that the map was fitted on.

        They must be distributed as if each scan's patient had been left out of the fit. Not
        asked of a split member.

        Parameters
        ----------
        at : all scans of some patients
        patients : whose scans they are
        scans : number of scans that the map was fitted on
        """
