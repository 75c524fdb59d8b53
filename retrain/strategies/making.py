"""What every strategy is given and returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.bundles.bundle import Bundle
from registry.bundles.heads import Floats
from registry.errors import BundleError
from retrain.change_plan import Strategy
from retrain.strategies.calibrating import Margins
from retrain.strategies.curve import Tell
from retrain.strategies.embedding import base_embeddings
from retrain.strategies.objective import Calibrated, Objective
from retrain.strategies.scans import Scans
from retrain.workspace import Attempt

if TYPE_CHECKING:
    from registry.bundles.network import Embedder

#: Strategies that leave the encoder as it is, and so fit every one.
KEEP_ENCODER = frozenset({Strategy.RECALIBRATION, Strategy.LINEAR_PROBE})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """What a strategy works on."""

    #: of the run: what attempts share
    workspace: Path
    #: of this attempt: checkpoints, and nothing else
    folder: Path
    base: Bundle
    objective: Objective
    attempt: Attempt
    scans: Scans
    seed: int
    threads: int
    tell: Tell

    def embeddings(self) -> Floats:
        """Return the base's embedding of every scan, [n, d]."""
        return base_embeddings(self.workspace, self.base, self.scans, threads=self.threads)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What a strategy made: a candidate's parts."""

    #: trained; None where the base's stays
    embedder: Embedder | None
    heads: dict[str, Floats]
    calibration: Calibrated
    #: of the selection set by the new head, before the calibration
    margins: Margins
    #: numbers of this strategy alone
    facts: dict[str, float]
    #: spent on it before a restart
    earlier_seconds: float = 0.0


def selection_facts(made: Made, scans: Scans) -> dict[str, float]:
    """Return what the selection set says of a candidate's parts; attempts are chosen by it."""
    targets = scans.targets[scans.selection]
    sensitivity, specificity = made.calibration.operating_point(made.margins, targets)
    return {
        "temperature": made.calibration.temperature,
        "threshold": made.calibration.threshold,
        "selection_loss": made.calibration.loss(made.margins, targets),
        "selection_auc": made.calibration.area(made.margins, targets),
        "selection_sensitivity": sensitivity,
        "selection_specificity": specificity,
        "training_scans": len(scans.training),
        "selection_scans": len(scans.selection),
        **made.facts,
    }


def require_weights(bundle: Bundle, strategy: Strategy) -> None:
    """Refuse a strategy that would change an encoder which has no weights to change.

    Raises
    ------
    BundleError
        Naming the strategies that fit.
    """
    if not bundle.trainable and strategy not in KEEP_ENCODER:
        fitting = " and ".join(sorted(KEEP_ENCODER))
        raise BundleError(
            f"{strategy.value} changes the encoder, and that of {bundle.card.name} is "
            f"encoder.onnx, which is frozen: {fitting} fit it"
        )
