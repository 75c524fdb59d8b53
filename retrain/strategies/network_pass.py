"""The network of an attempt, and how its scans pass through it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from registry.bundles.network import Network, build_network
from retrain.strategies.judging import Judged
from retrain.strategies.making import Work
from retrain.strategies.scans import Rows

EVALUATION_BATCH = 128


class NetworkPass:
    """A base's network on the device that there is, fed with a run's scans."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # What a strategy initialises at random is the same after a restart.
        torch.manual_seed(work.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        task = work.objective.task
        known = any(one.name == task.name for one in work.base.tasks)
        new = () if known else (task,)
        self.network: Network = build_network(work.base, new_tasks=new)
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)

    def place(self) -> None:
        """Bring the network to the device, in the layout that is fastest there."""
        self.network.to(self.device)
        # Channels last is twice as fast on a CPU.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def pixels(self, rows: Rows) -> Tensor:
        """Return the pixels of rows on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(self._work.scans.pixels[rows]))
        return pixels.to(self.device, memory_format=torch.channels_last)

    def targets(self, rows: Rows) -> Tensor:
        """Return the targets of rows on the device."""
        return torch.from_numpy(self._work.scans.targets[rows]).to(self.device)

    def cross_entropy(self, rows: Rows) -> Tensor:
        """Return the mean cross-entropy of the task on labelled rows."""
        _, logits = self.network(self.pixels(rows))
        objective = self._work.objective
        return objective.cross_entropy(logits[objective.task.name], self.targets(rows))

    def outputs(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return embeddings [n, d] and margins of rows, in float32 on the device."""
        objective = self._work.objective
        embeddings, margins = [], []
        with torch.inference_mode():
            for start in range(0, len(rows), EVALUATION_BATCH):
                pixels = self.pixels(rows[start : start + EVALUATION_BATCH])
                embedding, logits = self.network(pixels)
                embeddings.append(embedding.cpu().numpy())
                said = logits[objective.task.name].cpu().numpy()
                margins.append(objective.margins_of(said))
        return np.concatenate(embeddings).astype(np.float64), np.concatenate(margins)

    def judge(self) -> Judged:
        """Return cross-entropy and AUC on the selection set."""
        rows = self._work.scans.selection
        _, margins = self.outputs(rows)
        return self._work.objective.judged(margins, self._work.scans.targets[rows])

    def leave_device(self) -> None:
        """Bring the network back, as it is written."""
        self.network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
