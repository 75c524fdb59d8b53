"""The folder through which a run and its training subprocess talk: plain files, no pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

JOB = "job.json"
PIXELS = "pixels.npy"
TARGETS = "targets.npy"
ROLES = "roles.npy"
PROGRESS = "progress.jsonl"
CHECKPOINT = "checkpoint"
RESULT = "result"


class Role(IntEnum):
    """What a row of the pixels is for."""

    TRAINING = 0
    SELECTION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What the subprocess is told."""

    #: bundle to start from
    base: str
    #: task to learn, and its classes; the last one is positive
    task: str
    classes: tuple[str, ...]
    #: keep the encoder as it is
    head_only: bool
    epochs: int
    batch_size: int
    encoder_rate: float
    head_rate: float
    weight_decay: float
    frozen_share: float
    seed: int
    threads: int


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


def write_job(folder: Path, job: TrainingJob) -> None:
    """Write what the subprocess is told."""
    _write_whole(folder / JOB, json.dumps(asdict(job), indent=1).encode())


def read_job(folder: Path) -> TrainingJob:
    """Read what the subprocess was told."""
    document: dict[str, Any] = json.loads((folder / JOB).read_bytes())
    return TrainingJob(**{**document, "classes": tuple(document["classes"])})


def write_data(
    folder: Path,
    *,
    pixels: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    roles: npt.NDArray[np.int8],
) -> None:
    """Write prepared scans: pixels [n, 3, h, w], targets [n], roles [n]."""
    for name, array in ((PIXELS, pixels), (TARGETS, targets), (ROLES, roles)):
        np.save(folder / name, array, allow_pickle=False)


def read_data(
    folder: Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Read prepared scans; the pixels stay on disk and are read as they are used."""
    pixels = np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)
    targets = np.load(folder / TARGETS, allow_pickle=False)
    roles = np.load(folder / ROLES, allow_pickle=False)
    return pixels, targets, roles


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
    """Mark the result as complete; it is written last."""
    _write_whole(folder / RESULT / "result.json", json.dumps(facts, indent=1).encode())


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a complete result, or None."""
    path = folder / RESULT / "result.json"
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.writing")
    with staging.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)
