"""What a member of the portfolio is: a map of scans to bounded features.

Each member tests whether window and reference have the same mean feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.embeddings import Singles
from monitor.statistics.patients import Patients


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(ABC):
    """A map of scans to features whose mean is compared."""

    #: the name that verdicts carry
    name: str
    #: say in the portfolio; 0 for a description that has none
    weight: float

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of features."""

    @property
    def scale(self) -> float:
        """What the length of the shift is multiplied with to give an effect."""
        return 1.0

    @property
    def split(self) -> bool:
        """Whether the map was fitted on the shaping patients alone.

        A map that bends to the scans it was fitted on gives them other features than new
        scans; the reference's mean of such features is then taken over the other patients.
        """
        return False

    @property
    def peaked(self) -> bool:
        """Whether the share that grew most is tested, and not the length of the shift.

        Features are then indicators, whose means are shares.
        """
        return False

    @property
    def whitened(self) -> int:
        """Number of directions that are whitened by the fit's own scans; 0 for none."""
        return 0

    @abstractmethod
    def features(self, at: Coordinates) -> Singles:
        """Return the features [n, size] of scans that the map was not fitted on."""

    def left_out_features(self, at: Coordinates, patients: Patients, scans: int) -> Singles:  # noqa: ARG002
        """Return the features [n, size] of reference scans.

        They must be distributed as if each scan's patient had been left out of the fit; as
        they are, unless a member says otherwise.

        Parameters
        ----------
        at : all scans of some patients
        patients : whose scans they are
        scans : number of scans that the map was fitted on
        """
        return self.features(at)
