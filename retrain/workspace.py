"""The folder through which a run and its training subprocess talk: plain files, no pickle.

Each attempt of the run has a folder of its own in it, with checkpoints and what it made.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.bundles.heads import Task, TaskKind
from retrain.change_plan import LoraLayers, Strategy, TrainingRules

JOB = "job.json"
PIXELS = "pixels.npy"
TARGETS = "targets.npy"
ROLES = "roles.npy"
SHIFTED = "shifted.npy"
PROGRESS = "progress.jsonl"
CHECKPOINT = "checkpoint"
RESULT = "result.json"
ENCODER = "encoder"
HEADS = "heads.safetensors"

#: The target of a scan whose label is not known.
UNLABELLED = -1


class Role(IntEnum):
    """What a row of the pixels is for."""

    TRAINING = 0
    SELECTION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to make the candidate; a run may try several."""

    strategy: Strategy
    epochs: int
    batch_size: int
    encoder_rate: float
    head_rate: float
    weight_decay: float
    frozen_share: float
    layer_decay: float = 1.0
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_layers: LoraLayers = LoraLayers.ATTENTION
    adaptation_epochs: int = 5
    #: epochs without an improvement after which training ends; None for never
    patience: int | None = None
    mixed_precision: bool = False

    @classmethod
    def of(cls, strategy: Strategy, rules: TrainingRules) -> Attempt:
        """Return what a plan's rules make of a strategy."""
        values = rules.model_dump(exclude={"replay_ratio", "candidates"})
        return cls(strategy=strategy, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What the subprocess is told."""

    #: bundle to start from
    base: str
    #: task to learn, and its classes
    task: str
    classes: tuple[str, ...]
    #: in the order in which they are tried
    attempts: tuple[Attempt, ...]
    seed: int
    threads: int
    kind: TaskKind = TaskKind.MULTI_CLASS
    #: number of the class that is the finding; the last where it is left out
    finding: int = -1

    @property
    def new_task(self) -> Task:
        """The task for a base that lacks it: training will set its threshold."""
        several = self.kind is TaskKind.MULTI_LABEL
        return Task(
            name=self.task,
            kind=self.kind,
            classes=self.classes,
            positive=None if several else self.classes[self.finding],
            threshold=0.5,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One line of progress."""

    epoch: int
    epochs: int
    step: int
    steps: int
    #: cross-entropy of the last batch, or at an epoch's end of the selection set
    loss: float
    #: area under the curve on the selection set, at an epoch's end
    selection_auc: float | None
    #: mean loss of the epoch's batches, at its end
    training_loss: float | None = None
    #: which attempt this is, from 0 on, and of how many
    attempt: int = 0
    attempts: int = 1
    strategy: str = Strategy.FULL.value

    @property
    def current_epoch(self) -> int:
        """Return which epoch the attempt is in, from 1 on."""
        return min(self.epochs, self.epoch + 1)

    @property
    def share(self) -> float:
        """Return how much of the run's training is done, were all attempts alike, in [0, 1]."""
        # An epoch's end counts itself among the epochs that are done.
        begun = 0.0 if self.selection_auc is not None else self.step / max(self.steps, 1)
        of_attempt = min(1.0, (self.epoch + begun) / max(self.epochs, 1))
        return (self.attempt + of_attempt) / max(self.attempts, 1)


def write_job(folder: Path, job: TrainingJob) -> None:
    """Write what the subprocess is told."""
    write_whole(folder / JOB, json.dumps(asdict(job), indent=1).encode())


def read_job(folder: Path) -> TrainingJob:
    """Read what the subprocess was told."""
    document: dict[str, Any] = json.loads((folder / JOB).read_bytes())
    attempts = tuple(
        Attempt(
            **{
                **attempt,
                "strategy": Strategy(attempt["strategy"]),
                "lora_layers": LoraLayers(attempt["lora_layers"]),
            }
        )
        for attempt in document["attempts"]
    )
    return TrainingJob(
        **{
            **document,
            "classes": tuple(document["classes"]),
            "attempts": attempts,
            "kind": TaskKind(document["kind"]),
        }
    )


def write_data(
    folder: Path,
    *,
    pixels: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    roles: npt.NDArray[np.int8],
    shifted: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write prepared scans.

    Parameters
    ----------
    pixels : [n, 3, h, w]
    targets : a class or UNLABELLED, [n]; of several findings 0, 1 or UNLABELLED, [n, k]
    roles : of `Role`, [n]
    shifted : whether a scan is of the shift, and not of the reference that is mixed in, [n];
        all of them by default
    """
    if shifted is None:
        shifted = np.ones(len(targets), dtype=np.bool_)
    for name, array in (
        (PIXELS, pixels),
        (TARGETS, targets),
        (ROLES, roles),
        (SHIFTED, shifted),
    ):
        np.save(folder / name, array, allow_pickle=False)


def attempt_folder(folder: Path, attempt: int) -> Path:
    """Return where an attempt keeps its checkpoints and what it makes."""
    return folder / f"attempt-{attempt}"


def append_progress(folder: Path, progress: Progress) -> None:
    """Tell how far training has come."""
    with (folder / PROGRESS).open("a") as file:
        file.write(json.dumps(asdict(progress)) + "\n")


def read_progress(folder: Path) -> list[Progress]:
    """Return what was told so far; a half-written last line is left out."""
    path = folder / PROGRESS
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Progress(**json.loads(line)) for line in lines]


def write_result(folder: Path, facts: dict[str, Any]) -> None:
    """Mark what a folder holds as complete; it is written last."""
    write_whole(folder / RESULT, json.dumps(facts, indent=1).encode())


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a complete result, or None."""
    path = folder / RESULT
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, or not at all."""
    staging = path.with_name(f".{path.name}.writing")
    with staging.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)
