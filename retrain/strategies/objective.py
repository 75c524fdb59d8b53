"""What a head learns: how its logits are told from labels, for one kind of task each.

Every strategy works through an objective, so that it is written once for all kinds of task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from registry.bundles.heads import Floats, HeadState, Task
from retrain.strategies.calibrating import Margins, Targets
from retrain.strategies.curve import Tell
from retrain.strategies.judging import Judged
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import Scans

if TYPE_CHECKING:
    from torch import Tensor


class Calibrated(Protocol):
    """How margins are read: what stands beside a head in a bundle."""

    @property
    def temperature(self) -> float:
        """By which logits are divided."""

    @property
    def threshold(self) -> float:
        """On the probability of a finding."""

    def loss(self, margins: Margins, targets: Targets) -> float:
        """Return the mean cross-entropy of the calibrated probabilities."""

    def area(self, margins: Margins, targets: Targets) -> float:
        """Return the area under the curve, of several the mean."""

    def operating_point(self, margins: Margins, targets: Targets) -> tuple[float, float]:
        """Return sensitivity and specificity at the threshold, of several findings the mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A head with how it is read."""

    #: of the whole bundle, this head among them
    heads: dict[str, Floats]
    calibration: Calibrated
    #: by the new head, before the calibration; of those that it was calibrated on, or of all
    margins: Margins
    facts: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """What one kind of task learns."""

    @property
    def task(self) -> Task:
        """The task as it is before training; its threshold may be missing."""

    def margins(self, heads: HeadState, embeddings: Floats) -> Margins:
        """Return what a bundle's head says of embeddings [n, d]; a missing one says zero."""

    def margins_of(self, logits: Floats) -> Margins:
        """Return what a network's logits [n, k] say."""

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits [n, k], to learn by."""

    def judged(self, margins: Margins, targets: Targets) -> Judged:
        """Return cross-entropy and area of margins, uncalibrated."""

    def as_it_is(self) -> Calibrated:
        """Return how the task reads margins before training."""

    def require_every_class(self, targets: Targets, *, what: str) -> None:
        """Refuse labels of which a class is missing.

        Raises
        ------
        InsufficientDataError
        """

    def refit(
        self, heads: HeadState, training: Examples, selection: Examples, *, tell: Tell
    ) -> Fitted:
        """Return the head of the best penalty, with the margins of the selection.

        Raises
        ------
        InsufficientDataError
            If a class is missing on either side.
        """

    def calibrated(self, heads: HeadState, margins: Margins, targets: Targets) -> Fitted:
        """Calibrate a head that was trained, on the margins of the selection."""

    def recalibrated(self, heads: HeadState, margins: Margins, scans: Scans) -> Fitted:
        """Fit anew how a head is read, on labels of the shift; returns margins of all scans.

        Raises
        ------
        InsufficientDataError
            If there are too few scans to fit on, or scores no longer rise with a finding.
        """
