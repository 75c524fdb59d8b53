"""The training subprocess: `python -m retrain.trainer FOLDER`.

It reads a workspace, trains, and leaves a result there. It knows no database
and no registry; killed at any moment and started again, it goes on from its
last checkpoint and comes to the same result, since the order of the scans
follows from seed and epoch alone.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp
from torch import Tensor, nn

from monitor.statistics.performance.calibration import fit_temperature
from monitor.statistics.performance.discrimination import auc
from registry.bundles.bundle import read_bundle
from registry.bundles.heads import Task, TaskKind, write_head_state
from registry.bundles.network import Network, build_network, write_encoder
from registry.errors import InsufficientDataError
from retrain.workspace import (
    CHECKPOINT,
    RESULT,
    Progress,
    Role,
    TrainingJob,
    append_progress,
    read_data,
    read_job,
    read_result,
    write_result,
)

EVALUATION_BATCH = 128
PROGRESS_EVERY_STEPS = 5
#: Share of the steps over which learning rates rise.
WARM_UP = 0.1


def main(folder: Path) -> None:
    """Train what the workspace asks for."""
    if read_result(folder) is not None:
        return
    job = read_job(folder)
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    Trainer(folder, job).run()


class Trainer:
    """One training: network, optimiser, and where it stands."""

    def __init__(self, folder: Path, job: TrainingJob) -> None:
        self._folder = folder
        self._job = job
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = self._build().to(self._device)
        # Channels last is twice as fast on a CPU.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = [group for group in _trainable(self._network, job) if group[0]]
        self._rates = [rate for _, rate in groups]
        self._optimiser = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in groups],
            weight_decay=job.weight_decay,
        )
        pixels, targets, roles = read_data(folder)
        self._pixels, self._targets = pixels, targets
        self._training = np.flatnonzero(roles == Role.TRAINING)
        self._selection = np.flatnonzero(roles == Role.SELECTION)
        self._epoch = 0
        self._best_loss = math.inf
        self._best: dict[str, Tensor] = {}

    def run(self) -> None:
        """Train to the last epoch, keep the best epoch, and write the result."""
        started = time.monotonic()
        self._resume()
        while self._epoch < self._job.epochs:
            self._train_epoch()
            self._epoch += 1
            loss, reached = self._judge()
            # By loss, not by AUC: an AUC saturates early on few scans, and says
            # nothing of whether the threshold still means what it meant.
            if loss <= self._best_loss:
                self._best_loss, self._best = loss, self._weights()
            self._save_checkpoint()
            self._tell(step=self._steps(), loss=loss, selection_auc=reached)
        self._write(time.monotonic() - started)

    def _build(self) -> Network:
        bundle = read_bundle(Path(self._job.base))
        known = any(task.name == self._job.task for task in bundle.tasks)
        new = () if known else (_new_task(self._job),)
        return build_network(bundle, new_tasks=new)

    def _train_epoch(self) -> None:
        # Evaluation mode on purpose: batch normalisation keeps the statistics that
        # it was pretrained with, which small batches would only blur.
        self._network.eval()
        for step, rows in enumerate(self._batches()):
            pixels = self._load(rows)
            self._set_rates(step)
            _, logits = self._network(pixels)
            targets = torch.from_numpy(self._targets[rows]).to(self._device)
            loss = nn.functional.cross_entropy(logits[self._job.task], targets)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            if step % PROGRESS_EVERY_STEPS == 0:
                self._tell(step=step, loss=float(loss.detach()), selection_auc=None)

    def _set_rates(self, step: int) -> None:
        """Set the learning rates of a step: a short warm-up, then half a cosine to nothing.

        Without the warm-up, one of six splits lost the pretrained features in
        its first steps and never found them again.
        """
        done = (self._epoch + (step + 1) / self._steps()) / self._job.epochs
        share = min(1.0, done / WARM_UP) * (1 + math.cos(math.pi * done)) / 2
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share

    def _steps(self) -> int:
        return -(-len(self._training) // self._job.batch_size)

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        rng = np.random.default_rng([self._job.seed, self._epoch])
        order = rng.permutation(self._training)
        yield from np.array_split(order, self._steps())

    def _load(self, rows: npt.NDArray[np.int64]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(self._pixels[rows]))
        return pixels.to(self._device, memory_format=torch.channels_last)

    def _logits(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), EVALUATION_BATCH):
                _, logits = self._network(self._load(rows[start : start + EVALUATION_BATCH]))
                parts.append(logits[self._job.task].cpu().numpy())
        return np.concatenate(parts).astype(np.float64)

    def _judge(self) -> tuple[float, float]:
        """Return cross-entropy and AUC on the selection set."""
        logits, targets = self._logits(self._selection), self._targets[self._selection]
        chosen = logits[np.arange(len(targets)), targets]
        loss = float(np.mean(logsumexp(logits, axis=1) - chosen))
        return loss, auc(logits[:, -1] - logits[:, 0], targets)

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self._network.state_dict().items()
        }

    def _tell(self, *, step: int, loss: float, selection_auc: float | None) -> None:
        append_progress(
            self._folder,
            Progress(
                epoch=self._epoch,
                epochs=self._job.epochs,
                step=step,
                steps=self._steps(),
                loss=loss,
                selection_auc=selection_auc,
            ),
        )

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
        (staging / "state.json").write_text(
            json.dumps({"epoch": self._epoch, "best_loss": self._best_loss})
        )
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
        self._epoch, self._best_loss = facts["epoch"], facts["best_loss"]
        self._best = _under("best.", tensors)
        self._network.load_state_dict(_under("last.", tensors))
        state = self._optimiser.state_dict()
        for name, value in _under("optimiser.", tensors).items():
            index, _, key = name.partition(".")
            state["state"].setdefault(int(index), {})[key] = value
        self._optimiser.load_state_dict(state)

    def _write(self, seconds: float) -> None:
        self._network.load_state_dict(self._best)
        logits = self._logits(self._selection)
        targets = self._targets[self._selection]
        temperature = _temperature(logits, targets)
        result = self._folder / RESULT
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        self._network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        write_encoder(self._network.embedder, result / "encoder")
        write_head_state(result / "heads.safetensors", self._network.head_state())
        margins = logits[:, -1] - logits[:, 0]
        write_result(
            self._folder,
            {
                "temperature": temperature,
                "threshold": operating_threshold(margins, targets, temperature=temperature),
                "selection_loss": self._best_loss,
                "selection_auc": auc(margins, targets),
                "training_scans": len(self._training),
                "selection_scans": len(self._selection),
                "seconds": seconds,
            },
        )


def _new_task(job: TrainingJob) -> Task:
    return Task(
        name=job.task,
        kind=TaskKind.MULTI_CLASS,
        classes=job.classes,
        positive=job.classes[-1],
        threshold=0.5,
        temperature=1.0,
    )


def _trainable(network: Network, job: TrainingJob) -> list[tuple[list[nn.Parameter], float]]:
    """Return (parameters, rate) of encoder and heads; the rest is frozen.

    Layers are the encoder's modules that own parameters, in the order in which
    it names them, which is from the input on.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    layers = [
        list(module.parameters(recurse=False)) for module in network.embedder.encoder.modules()
    ]
    layers = [layer for layer in layers if layer]
    first = len(layers) if job.head_only else round(job.frozen_share * len(layers))
    encoder = [parameter for layer in layers[first:] for parameter in layer]
    head = list(network.heads.parameters())
    for parameter in (*encoder, *head):
        parameter.requires_grad_(True)
    return [(encoder, job.encoder_rate), (head, job.head_rate)]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _temperature(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> float:
    """Return the temperature that calibrates, or 1 where no error of the selection set bounds it.

    A small selection set that is read without an error would make every
    probability 0 or 1; the probabilities then stay as they were trained.
    """
    try:
        return fit_temperature(logits, targets)
    except InsufficientDataError:
        return 1.0


def operating_threshold(
    margins: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], *, temperature: float
) -> float:
    """Return the probability at which sensitivity + specificity is largest (Youden 1950).

    On probabilities that are calibrated that is the prevalence, where a scan is
    as likely among the positives as among the negatives. Only the intercept of
    the calibration is fitted here, which a small selection set bears; the
    empirical optimum would follow single scans.

    Parameters
    ----------
    margins : logit of the positive class less that of the negative, [n]
    targets : 0 or 1, [n], both present
    temperature : by which margins are divided before they become probabilities
    """
    scaled = margins / temperature
    prevalence = float(np.mean(targets))
    intercept = float(
        brentq(lambda shift: float(np.mean(expit(scaled + shift))) - prevalence, -60.0, 60.0)
    )
    return float(expit(logit(prevalence) - intercept))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
