"""Epochs of gradient steps that survive being killed.

Killed at any moment and started again, a training goes on from its last checkpoint and
comes to the same result, since the order of the scans follows from seed and epoch alone.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrain.strategies.curve import Point, Tell
from retrain.strategies.judging import Judged
from retrain.strategies.scans import Rows
from retrain.workspace import CHECKPOINT

PROGRESS_EVERY_STEPS = 5
#: Share of the steps over which learning rates rise.
WARM_UP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Parameters that learn at one rate."""

    parameters: list[nn.Parameter]
    rate: float


class Lesson(Protocol):
    """What one strategy teaches a network."""

    @property
    def network(self) -> nn.Module:
        """Return what is taught; parameters that need no gradient stay as they are."""

    def groups(self) -> Sequence[Group]:
        """Return what learns, and how fast."""

    def steps(self) -> int:
        """Return the number of steps of an epoch."""

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield rows of an epoch's batches: always the same ones."""

    def loss(self, rows: Rows) -> Tensor:
        """Return the loss of a batch."""

    def judge(self) -> Judged:
        """Return how good the network is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long, and under which restraints."""

    epochs: int
    weight_decay: float
    patience: int | None
    mixed_precision: bool


class Epochs:
    """One training: network, optimiser, and where it stands."""

    def __init__(self, folder: Path, lesson: Lesson, schedule: Schedule, *, tell: Tell) -> None:
        self._folder = folder
        self._lesson = lesson
        self._schedule = schedule
        self._tell = tell
        groups = [group for group in lesson.groups() if group.parameters]
        self._rates = [group.rate for group in groups]
        self._optimiser = torch.optim.AdamW(
            [{"params": group.parameters, "lr": group.rate} for group in groups],
            weight_decay=schedule.weight_decay,
        )
        self._learning = {
            name: parameter
            for name, parameter in lesson.network.named_parameters()
            if parameter.requires_grad
        }
        self._device = next(iter(self._learning.values())).device
        self._epoch = 0
        self._best_epoch = 0
        self._best_loss = math.inf
        self._best: dict[str, Tensor] = {}
        self._started = time.monotonic()
        self._before = 0.0

    @property
    def facts(self) -> dict[str, float]:
        """Return how it went."""
        return {"epochs": self._epoch, "best_epoch": self._best_epoch}

    @property
    def earlier_seconds(self) -> float:
        """Return what was spent before this process took over."""
        return self._before

    def run(self) -> None:
        """Train to the end, and leave the network as it was after its best epoch."""
        self._resume()
        while self._epoch < self._schedule.epochs and not self._has_lost_patience():
            training_loss = self._train_epoch()
            self._epoch += 1
            judged = self._lesson.judge()
            # By loss, not by AUC: an AUC saturates early on few scans, and says
            # nothing of whether the threshold still means what it meant.
            if judged.loss <= self._best_loss:
                self._best_loss, self._best = judged.loss, self._weights()
                self._best_epoch = self._epoch
            self._save_checkpoint()
            self._tell(
                self._point(
                    self._lesson.steps(),
                    loss=judged.loss,
                    selection_auc=judged.selection_auc,
                    training_loss=training_loss,
                )
            )
        self._set_weights(self._best)

    def _has_lost_patience(self) -> bool:
        patience = self._schedule.patience
        return patience is not None and self._epoch - self._best_epoch >= patience

    def _train_epoch(self) -> float:
        # Evaluation mode on purpose: batch normalisation keeps the statistics that
        # it was pretrained with, which small batches would only blur.
        self._lesson.network.eval()
        losses = []
        half = self._schedule.mixed_precision and self._device.type == "cuda"
        for step, rows in enumerate(self._lesson.batches(self._epoch)):
            self._set_rates(step)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
                loss = self._lesson.loss(rows)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            losses.append(float(loss.detach()))
            if step % PROGRESS_EVERY_STEPS == 0:
                self._tell(self._point(step, loss=losses[-1]))
        return float(np.mean(losses))

    def _set_rates(self, step: int) -> None:
        """Set the learning rates of a step: a short warm-up, then half a cosine to nothing.

        Without the warm-up, one of six splits lost the pretrained features in
        its first steps and never found them again.
        """
        done = (self._epoch + (step + 1) / self._lesson.steps()) / self._schedule.epochs
        share = min(1.0, done / WARM_UP) * (1 + math.cos(math.pi * done)) / 2
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share

    def _point(
        self,
        step: int,
        *,
        loss: float,
        selection_auc: float | None = None,
        training_loss: float | None = None,
    ) -> Point:
        return Point(
            epoch=self._epoch,
            epochs=self._schedule.epochs,
            step=step,
            steps=self._lesson.steps(),
            loss=loss,
            selection_auc=selection_auc,
            training_loss=training_loss,
        )

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self._learning.items()
        }

    def _set_weights(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._learning.items():
                parameter.copy_(weights[name])

    def _save_checkpoint(self) -> None:
        tensors = {f"last.{name}": value for name, value in self._weights().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        for index, state in self._optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser.{index}.{name}": value.cpu().contiguous()
                for name, value in state.items()
            }
        staging = self._folder / f".{CHECKPOINT}-{self._epoch}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        save_file(tensors, staging / "state.safetensors")
        facts = {
            "epoch": self._epoch,
            "best_epoch": self._best_epoch,
            "best_loss": self._best_loss,
            "seconds": self._before + time.monotonic() - self._started,
        }
        (staging / "state.json").write_text(json.dumps(facts))
        staging.rename(self._folder / f"{CHECKPOINT}-{self._epoch}")
        shutil.rmtree(self._folder / f"{CHECKPOINT}-{self._epoch - 1}", ignore_errors=True)

    def _resume(self) -> None:
        found = sorted(
            self._folder.glob(f"{CHECKPOINT}-*"), key=lambda path: int(path.name.split("-")[1])
        )
        if not found:
            return
        facts = json.loads((found[-1] / "state.json").read_text())
        tensors = load_file(found[-1] / "state.safetensors")
        self._epoch, self._best_epoch = facts["epoch"], facts["best_epoch"]
        self._best_loss, self._before = facts["best_loss"], facts["seconds"]
        self._best = _under("best.", tensors)
        self._set_weights(_under("last.", tensors))
        state = self._optimiser.state_dict()
        for name, value in _under("optimiser.", tensors).items():
            index, _, key = name.partition(".")
            state["state"].setdefault(int(index), {})[key] = value
        self._optimiser.load_state_dict(state)


def shuffled(rows: Rows, *, size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """Yield rows in batches of about a size, in an order that seed and epoch decide."""
    rng = np.random.default_rng([seed, epoch])
    yield from np.array_split(rng.permutation(rows), batches_of(rows, size=size))


def batches_of(rows: Rows, *, size: int) -> int:
    """Return into how many batches rows fall."""
    return -(-len(rows) // size)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
