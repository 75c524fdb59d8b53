"""Several classes of which exactly one holds: a softmax over their logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, logit, softmax

from monitor.statistics.performance.calibration import fit_temperature
from monitor.statistics.performance.discrimination import auc
from registry.bundles.heads import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    Floats,
    HeadState,
    Task,
)
from registry.errors import InsufficientDataError
from retrain.strategies.calibrating import Margins, Targets, operating_threshold
from retrain.strategies.curve import Tell
from retrain.strategies.heads import Doubles
from retrain.strategies.judging import Judged
from retrain.strategies.objective import Fitted
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import Scans
from retrain.strategies.several_logits import read_logit_head, refit_logits

if TYPE_CHECKING:
    from torch import Tensor

#: Probabilities of the finding are kept off 0 and 1 by this much before they become log-odds.
_CLIP = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCalibration:
    """How logits [n, k] of several classes are read."""

    temperature: float
    #: on the probability of the finding
    threshold: float
    #: number of the class that is the finding
    finding: int

    def loss(self, margins: Margins, targets: Targets) -> float:
        """Return the mean cross-entropy of the calibrated probabilities."""
        return cross_entropy(margins / self.temperature, targets)

    def area(self, margins: Margins, targets: Targets) -> float:
        """Return the mean area of one class against the rest."""
        return mean_area(margins, targets)

    def operating_point(self, margins: Margins, targets: Targets) -> tuple[float, float]:
        """Return sensitivity and specificity for the finding at the threshold."""
        called = softmax(margins / self.temperature, axis=1)[:, self.finding] >= self.threshold
        truth = targets == self.finding
        return float(np.mean(called[truth])), float(np.mean(~called[~truth]))


@dataclass(frozen=True, slots=True)
class SeveralClasses:
    """A multi-class task of any number of classes, one of which is the finding."""

    task: Task

    def margins(self, heads: HeadState, embeddings: Floats) -> Margins:
        """Return logits, [n, k]."""
        head = read_logit_head(heads, self.task, dimension=embeddings.shape[1])
        return head.logits(embeddings)

    def margins_of(self, logits: Floats) -> Margins:
        """Return logits, [n, k]."""
        return logits.astype(np.float64)

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets)

    def judged(self, margins: Margins, targets: Targets) -> Judged:
        return Judged(
            loss=cross_entropy(margins, targets), selection_auc=mean_area(margins, targets)
        )

    def as_it_is(self) -> ClassCalibration:
        return self._read(self.task.temperature, self.task.threshold or 0.5)

    def require_every_class(self, targets: Targets, *, what: str) -> None:
        for number, name in enumerate(self.task.classes):
            if not np.any(targets == number):
                raise InsufficientDataError(what=f"{what} of class {name}", needed=1, got=0)

    def refit(
        self, heads: HeadState, training: Examples, selection: Examples, *, tell: Tell
    ) -> Fitted:
        chosen = np.eye(len(self.task.classes))[training.targets]

        def loss(logits: Doubles) -> tuple[float, Doubles]:
            shares = softmax(logits, axis=1)
            value = -float(np.mean(np.sum(chosen * log_softmax(logits, axis=1), axis=1)))
            return value, (shares - chosen) / len(chosen)

        return refit_logits(self, loss, heads, training, selection, tell=tell)

    def calibrated(self, heads: HeadState, margins: Margins, targets: Targets) -> Fitted:
        try:
            temperature = fit_temperature(margins, targets)
        except InsufficientDataError:
            temperature = 1.0  # no error of the selection set bounds it
        return Fitted(
            heads=dict(heads),
            calibration=self._read(
                temperature, self._threshold(margins / temperature, targets)
            ),
            margins=margins,
        )

    def recalibrated(self, heads: HeadState, margins: Margins, scans: Scans) -> Fitted:
        """Fit one temperature and a constant for each class.

        Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, ICML, PMLR
        119:222-232). The order of scans within a class's logit stays; that of probabilities may
        change, since each depends on all logits.
        """
        rows = scans.training_of_shift
        if not len(rows):
            raise InsufficientDataError(
                what=f"labelled scans of the shift (the classes of {self.task.name} are "
                "recalibrated by nothing else)",
                needed=1,
                got=0,
            )
        targets = scans.targets[rows]
        self.require_every_class(targets, what="labelled scans of the shift")
        temperature, biases = _bias_corrected(margins[rows], targets)
        moved = margins + biases
        bias = f"{self.task.name}.bias"
        return Fitted(
            heads={**heads, bias: (heads[bias].astype(np.float64) + biases).astype(np.float32)},
            calibration=self._read(
                temperature, self._threshold(moved[rows] / temperature, targets)
            ),
            margins=moved,
        )

    def _read(self, temperature: float, threshold: float) -> ClassCalibration:
        return ClassCalibration(
            temperature=temperature, threshold=threshold, finding=self.task.column
        )

    def _threshold(self, calibrated: Margins, targets: Targets) -> float:
        """Return the operating point of the finding against all other classes."""
        share = softmax(calibrated, axis=1)[:, self.task.column]
        return operating_threshold(
            logit(np.clip(share, _CLIP, 1.0 - _CLIP)),
            (targets == self.task.column).astype(np.int64),
            temperature=1.0,
        )


def cross_entropy(logits: Margins, targets: Targets) -> float:
    """Return the mean cross-entropy of logits [n, k] for classes [n]."""
    return -float(np.mean(log_softmax(logits, axis=1)[np.arange(len(targets)), targets]))


def mean_area(logits: Margins, targets: Targets) -> float:
    """Return the mean over classes of the area of one against the rest."""
    shares = softmax(logits, axis=1)
    classes = shares.shape[1]
    return float(np.mean([auc(shares[:, one], targets == one) for one in range(classes)]))


def _bias_corrected(logits: Margins, targets: Targets) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the likeliest temperature, and what is added to each class's logit before it.

    Raises
    ------
    InsufficientDataError
        If logits no longer rise with their classes.
    """
    classes = logits.shape[1]
    # Logits of unit spread: all parameters of the search are then of one size.
    spread = float(np.std(logits)) or 1.0
    chosen = np.eye(classes)[targets]

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        slope, biases = parameters[0], parameters[1:]
        said = slope * logits / spread + biases
        wrong = (softmax(said, axis=1) - chosen) / len(chosen)
        value = -float(np.mean(np.sum(chosen * log_softmax(said, axis=1), axis=1)))
        return value, np.append(np.sum(wrong * logits / spread), wrong.sum(axis=0))

    steepest, flattest = spread / LOWEST_TEMPERATURE, spread / HIGHEST_TEMPERATURE

    def fitted(low: float | None, high: float) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = minimize(
            loss,
            np.append(min(high, max(1.0, low or 1.0)), np.zeros(classes)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(low, high), *[(None, None)] * classes],
            options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-10},
        ).x
        return found

    found = fitted(None, steepest)
    if (np.argmax(found[0] * logits / spread + found[1:], axis=1) == targets).all():
        # No error bounds the slope: logits keep their spread, and move only.
        found = fitted(spread, spread)
    if found[0] <= flattest:
        raise InsufficientDataError(
            what="labelled scans of the shift whose logits still rise with their class "
            "(a recalibration keeps their order: train instead)",
            needed=1,
            got=0,
        )
    temperature = spread / float(found[0])
    biases = found[1:] * temperature
    return temperature, biases - biases.mean()
