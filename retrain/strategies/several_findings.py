"""Several findings, each of which holds or not by itself: a sigmoid for each.

Temperature and intercept are each finding's own, and stand in its row of the head; the task's
temperature is then 1. The threshold is the task's: one for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from monitor.statistics.performance.discrimination import auc
from registry.bundles.heads import Floats, HeadState, Task
from retrain.strategies.calibrating import Calibration, Margins, Targets, temperature_of
from retrain.strategies.curve import Tell
from retrain.strategies.heads import Doubles
from retrain.strategies.judging import Judged
from retrain.strategies.objective import Fitted
from retrain.strategies.one_finding import recalibration_of
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import Scans, require_both_classes
from retrain.strategies.several_logits import LogitHead, read_logit_head, refit_logits

if TYPE_CHECKING:
    from torch import Tensor

#: A threshold is kept off 0 and 1, where no task can have one.
_LEAST_THRESHOLD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsCalibration:
    """How logits [n, k] of several findings are read."""

    temperature: float
    threshold: float

    def loss(self, margins: Margins, targets: Targets) -> float:
        """Return the mean cross-entropy over scans and findings."""
        return cross_entropy(margins / self.temperature, targets)

    def area(self, margins: Margins, targets: Targets) -> float:
        """Return the mean area of the findings."""
        return mean_area(margins, targets)

    def operating_point(self, margins: Margins, targets: Targets) -> tuple[float, float]:
        """Return the means over findings of sensitivity and specificity."""
        called = expit(margins / self.temperature) >= self.threshold
        holds = targets == 1
        return (
            float(np.mean(np.sum(called & holds, axis=0) / np.sum(holds, axis=0))),
            float(np.mean(np.sum(~called & ~holds, axis=0) / np.sum(~holds, axis=0))),
        )


@dataclass(frozen=True, slots=True)
class SeveralFindings:
    """A multi-label task."""

    task: Task

    def margins(self, heads: HeadState, embeddings: Floats) -> Margins:
        """Return logits, [n, k]."""
        head = read_logit_head(heads, self.task, dimension=embeddings.shape[1])
        return head.logits(embeddings)

    def margins_of(self, logits: Floats) -> Margins:
        """Return logits, [n, k]."""
        return logits.astype(np.float64)

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def judged(self, margins: Margins, targets: Targets) -> Judged:
        return Judged(
            loss=cross_entropy(margins, targets), selection_auc=mean_area(margins, targets)
        )

    def as_it_is(self) -> FindingsCalibration:
        return FindingsCalibration(
            temperature=self.task.temperature, threshold=self.task.threshold or 0.5
        )

    def require_every_class(self, targets: Targets, *, what: str) -> None:
        for column, name in enumerate(self.task.classes):
            require_both_classes(targets[:, column], what=what, finding=name)

    def refit(
        self, heads: HeadState, training: Examples, selection: Examples, *, tell: Tell
    ) -> Fitted:
        holds = training.targets.astype(np.float64)

        # A sum over findings: a penalty then means what it means for one.
        def loss(logits: Doubles) -> tuple[float, Doubles]:
            value = np.mean(np.sum(np.logaddexp(0.0, logits) - holds * logits, axis=1))
            return float(value), (expit(logits) - holds) / len(holds)

        return refit_logits(self, loss, heads, training, selection, tell=tell)

    def calibrated(self, heads: HeadState, margins: Margins, targets: Targets) -> Fitted:
        by_finding = [
            Calibration(
                temperature=temperature_of(margins[:, one], targets[:, one]),
                intercept=0.0,
                threshold=0.5,
            )
            for one in range(margins.shape[1])
        ]
        return self._read(heads, margins, by_finding, targets, np.arange(len(margins)))

    def recalibrated(self, heads: HeadState, margins: Margins, scans: Scans) -> Fitted:
        by_finding = []
        for one, name in enumerate(self.task.classes):
            rows = scans.training_of_shift
            if len(rows):
                require_both_classes(
                    scans.targets[rows, one], what="labelled scans of the shift", finding=name
                )
            by_finding.append(recalibration_of(margins[:, one], scans.targets[:, one], scans))
        labelled = scans.training_of_shift
        if not len(labelled):
            labelled = scans.training_of_reference
        return self._read(heads, margins, by_finding, scans.targets, labelled)

    def _read(
        self,
        heads: HeadState,
        margins: Margins,
        by_finding: list[Calibration],
        targets: Targets,
        rows: np.typing.NDArray[np.int64],
    ) -> Fitted:
        """Move each finding's calibration into its row of the head; the threshold is by `rows`."""
        log_odds = np.column_stack(
            [one.log_odds(margins[:, column]) for column, one in enumerate(by_finding)]
        )
        name = self.task.name
        weight, bias = (heads[f"{name}.{part}"].astype(np.float64) for part in _PARTS)
        temperatures = np.array([one.temperature for one in by_finding])
        intercepts = np.array([one.intercept for one in by_finding])
        head = LogitHead(
            weight=weight / temperatures[:, None], bias=(bias + intercepts) / temperatures
        )
        return Fitted(
            heads=head.into(heads, name),
            calibration=FindingsCalibration(
                temperature=1.0, threshold=common_threshold(log_odds[rows], targets[rows])
            ),
            margins=log_odds,
        )


_PARTS = ("weight", "bias")


def cross_entropy(logits: Margins, targets: Targets) -> float:
    """Return the mean over scans and findings of the cross-entropy, logits and 0 or 1 [n, k]."""
    return float(np.mean(np.logaddexp(0.0, logits) - targets * logits))


def mean_area(logits: Margins, targets: Targets) -> float:
    """Return the mean over findings of the area under the curve."""
    findings = logits.shape[1]
    return float(np.mean([auc(logits[:, one], targets[:, one]) for one in range(findings)]))


def common_threshold(log_odds: Margins, targets: Targets) -> float:
    """Return the probability at which the mean of sensitivity + specificity is largest.

    As `operating_threshold` does for one finding, on probabilities whose intercepts alone are
    fitted here: what single scans are labelled decides nothing else. Findings of very
    different frequency are served badly by one threshold; they are tasks of their own.

    Parameters
    ----------
    log_odds : calibrated, [n, k]
    targets : 0 or 1, both present for each finding, [n, k]
    """
    gains = np.empty_like(log_odds)
    for one in range(log_odds.shape[1]):
        said, prevalence = log_odds[:, one], float(np.mean(targets[:, one]))

        def excess(shift: float, said: Margins = said, prevalence: float = prevalence) -> float:
            return float(np.mean(expit(said + shift))) - prevalence

        chance = expit(said + float(brentq(excess, -60.0, 60.0)))
        gains[:, one] = chance / chance.sum() - (1.0 - chance) / (1.0 - chance).sum()
    order = np.argsort(-log_odds, axis=None, kind="stable")
    ranked = log_odds.ravel()[order]
    gained = np.cumsum(gains.ravel()[order])
    # A threshold lies between two different values: equal ones are called together.
    between = np.flatnonzero(np.diff(ranked) < 0.0)
    if not len(between):
        return 0.5
    last = int(between[np.argmax(gained[between])])
    middle = float(expit((ranked[last] + ranked[last + 1]) / 2.0))
    return float(np.clip(middle, _LEAST_THRESHOLD, 1.0 - _LEAST_THRESHOLD))
