"""Workspaces of trainings that take seconds."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny_bundles import SIDE, TASK

from registry.bundles.bundle import Bundle
from retrain import workspace
from retrain.change_plan import Strategy
from retrain.workspace import Attempt, Role, TrainingJob

SCANS = 72


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
    scans: int = SCANS,
    seed: int = 3,
) -> Path:
    """Write a workspace whose two classes differ by how bright most of them are.

    Two thirds of the scans are to learn from, and a third of these are of the reference. Where
    the base's head is to be `agreeing`, the classes are those that it says.
    """
    folder.mkdir()
    rng = np.random.default_rng(4)
    targets = np.arange(scans) % 2
    bright = targets if separable else np.where(rng.random(scans) < 0.1, 1 - targets, targets)
    pixels = rng.normal(size=(scans, 3, side, side)) + 0.5 * bright[:, None, None, None]
    if agreeing:
        targets = _said_by(base, pixels.astype(np.float32))
    numbers, training = np.arange(scans), scans * 2 // 3
    workspace.write_data(
        folder,
        pixels=pixels.astype(np.float32),
        targets=targets.astype(np.int64),
        roles=np.where(numbers < training, Role.TRAINING, Role.SELECTION).astype(np.int8),
        shifted=numbers >= training // 3,
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


def train_here(folder: Path) -> Path:
    """Train in this process, which saves the seconds that importing torch takes."""
    import torch

    from retrain.trainer import main

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        main(folder)
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
    return folder


def train_and_die(folder: Path, *, told: int) -> None:
    """Train in a process that kills itself once it has told so much of its progress."""
    # Forked from a server that has imported torch once, where a new interpreter takes seconds.
    context = get_context("forkserver")
    context.set_forkserver_preload(["retrain.trainer"])
    process = context.Process(target=_train_and_die, args=(folder, told))
    process.start()
    process.join(timeout=300)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"it ended with {process.exitcode}"
    assert len(workspace.read_progress(folder)) == told


def _train_and_die(folder: Path, last: int) -> None:
    from retrain import trainer

    told, append = 0, trainer.append_progress

    def append_and_die(*words: Any) -> None:
        nonlocal told
        append(*words)
        told += 1
        if told == last:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.append_progress = append_and_die  # type: ignore[assignment]
    trainer.main(folder)
