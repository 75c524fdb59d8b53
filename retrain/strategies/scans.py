"""The prepared scans of a run, as its training subprocess reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import InsufficientDataError
from retrain.workspace import PIXELS, ROLES, SHIFTED, TARGETS, UNLABELLED, Role

#: Fewest scans to adapt to, and of the reference to hold on to: of fewer, distributions cannot
#: be told from their samples.
LEAST_TO_ADAPT_TO = 40

Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scans:
    """Every scan of a run; the pixels stay on disk and are read as they are used."""

    pixels: npt.NDArray[np.float32]  #: [n, 3, h, w]
    #: a class or UNLABELLED, [n]; of several findings 0, 1 or UNLABELLED for each, [n, k]
    targets: npt.NDArray[np.int64]
    roles: npt.NDArray[np.int8]  #: [n]
    shifted: npt.NDArray[np.bool_]  #: of the shift, not of the reference, [n]

    @property
    def training(self) -> Rows:
        """Rows with labels to learn from, of the shift and of the reference."""
        return np.flatnonzero((self.roles == Role.TRAINING) & self._labelled)

    @property
    def selection(self) -> Rows:
        """Rows with labels to choose by."""
        return np.flatnonzero((self.roles == Role.SELECTION) & self._labelled)

    @property
    def training_of_shift(self) -> Rows:
        """Rows of the shift with labels to learn from."""
        return np.flatnonzero((self.roles == Role.TRAINING) & self._labelled & self.shifted)

    @property
    def training_of_reference(self) -> Rows:
        """Rows of the reference with labels to learn from."""
        return np.flatnonzero((self.roles == Role.TRAINING) & self._labelled & ~self.shifted)

    @property
    def unlabelled_of_shift(self) -> Rows:
        """Rows of the shift to learn from, whose labels are not known."""
        return np.flatnonzero((self.roles == Role.TRAINING) & ~self._labelled & self.shifted)

    @property
    def any_of_shift(self) -> Rows:
        """Rows of the shift to learn from, with a label or without."""
        return np.flatnonzero((self.roles == Role.TRAINING) & self.shifted)

    @property
    def _labelled(self) -> npt.NDArray[np.bool_]:
        first = self.targets if self.targets.ndim == 1 else self.targets[:, 0]
        known: npt.NDArray[np.bool_] = first != UNLABELLED
        return known


def read_scans(folder: Path) -> Scans:
    """Read the prepared scans in a workspace."""
    return Scans(
        pixels=np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False),
        targets=np.load(folder / TARGETS, allow_pickle=False),
        roles=np.load(folder / ROLES, allow_pickle=False),
        shifted=np.load(folder / SHIFTED, allow_pickle=False),
    )


def require_both_classes(
    targets: npt.NDArray[np.int64], *, what: str, finding: str = "the finding"
) -> None:
    """Refuse rows of which one class is missing.

    Parameters
    ----------
    targets : 0 or 1, [n]
    finding : its name, where the task has several

    Raises
    ------
    InsufficientDataError
    """
    for value, word in ((1, "with"), (0, "without")):
        found = int(np.sum(targets == value))
        if found < 1:
            raise InsufficientDataError(what=f"{what} {word} {finding}", needed=1, got=found)
