"""Workspaces of trainings that take seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny_bundles import SIDE, TASK

from registry.bundles.bundle import Bundle
from retrain import workspace
from retrain.change_plan import Strategy
from retrain.workspace import Attempt, Role, TrainingJob

SCANS, TRAINING_SCANS = 72, 48


def attempt(**changes: Any) -> Attempt:
    """Return full fine-tuning of everything, or what is changed of it."""
    plain = Attempt(
        strategy=Strategy.FULL,
        epochs=24,
        batch_size=16,
        encoder_rate=1e-3,
        head_rate=1e-2,
        weight_decay=1e-4,
        frozen_share=0.0,
    )
    return replace(plain, **changes)


def prepared_workspace(
    folder: Path,
    base: Bundle,
    *attempts: Attempt,
    separable: bool = False,
    agreeing: bool = False,
    side: int = SIDE,
    seed: int = 3,
) -> Path:
    """Write a workspace whose two classes differ by how bright most of them are.

    A third of the scans to learn from are of the reference. Where the base's head is to be
    `agreeing`, the classes are those that it says.
    """
    folder.mkdir()
    rng = np.random.default_rng(4)
    targets = np.arange(SCANS) % 2
    bright = targets if separable else np.where(rng.random(SCANS) < 0.1, 1 - targets, targets)
    pixels = rng.normal(size=(SCANS, 3, side, side)) + 0.5 * bright[:, None, None, None]
    if agreeing:
        targets = _said_by(base, pixels.astype(np.float32))
    numbers = np.arange(SCANS)
    workspace.write_data(
        folder,
        pixels=pixels.astype(np.float32),
        targets=targets.astype(np.int64),
        roles=np.where(numbers < TRAINING_SCANS, Role.TRAINING, Role.SELECTION).astype(np.int8),
        shifted=numbers >= TRAINING_SCANS // 3,
    )
    workspace.write_job(
        folder,
        TrainingJob(
            base=str(base.root),
            task=TASK,
            classes=("normal", "pneumonia"),
            attempts=attempts or (attempt(),),
            seed=seed,
            threads=1,
        ),
    )
    return folder


def _said_by(base: Bundle, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return what the base's head says of half of the scans, and the contrary of a few."""
    from registry.bundles.network import build_network, network_outputs

    logits = network_outputs(build_network(base), pixels)[f"logits_{TASK}"]
    margins = logits[:, 1] - logits[:, 0]
    said = (margins > np.median(margins)).astype(np.int64)
    wrong = np.random.default_rng(5).random(len(said)) < 0.15
    return np.where(wrong, 1 - said, said)
