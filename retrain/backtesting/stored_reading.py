"""Readings from stored embeddings: heads alone are computed, and no pixel is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.embeddings import STORED, to_bytes
from monitor.tables import ScanRow
from registry.bundles.bundle import Bundle
from registry.bundles.heads import Floats as Singles
from registry.bundles.heads import HeadState, Task
from registry.errors import BadInputError, DriftwardError, InsufficientDataError
from registry.versions import VersionRow, ref
from retrain.gates.deployment import DeploymentMeasurement
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.results import Floats
from retrain.readers import task_named

#: Opens a registered version's bundle.
OpenBundle: TypeAlias = Callable[[VersionRow], Bundle]
#: Embeds scans whose embedding by a version is not stored, from their pixels, [n, d].
EmbedPixels: TypeAlias = Callable[[VersionRow, Sequence[ScanRow]], Singles]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What turns embeddings into a version's results."""

    state: HeadState
    tasks: tuple[Task, ...]

    def probabilities(self, embeddings: Singles, task: Task) -> Singles:
        """Return a task's probabilities [n, k] for embeddings [n, d]."""
        weight, bias = self.state[f"{task.name}.weight"], self.state[f"{task.name}.bias"]
        return task.probabilities(embeddings @ weight.T + bias)

    def scores(self, embeddings: Singles, name: str) -> tuple[Floats, float]:
        """Return the probability of a task's finding for embeddings [n, d], and the threshold."""
        [task] = [one for one in self.tasks if one.name == name]
        positive = self.probabilities(embeddings, task)[:, task.column].astype(np.float64)
        return positive, _threshold(task)


class StoredReader:
    """Reads scans by every version that has one encoder: its first champion's, in a replay."""

    def __init__(
        self,
        champion: VersionRow,
        vectors: Mapping[int, bytes],
        *,
        open_bundle: OpenBundle,
        embed: EmbedPixels,
    ) -> None:
        self.champion = champion
        #: embeddings by scan, as they are stored
        self.vectors = dict(vectors)
        self._open_bundle = open_bundle
        self._embed = embed
        self._heads: dict[int, Heads] = {}

    def learn(self, version: VersionRow, heads: Heads) -> None:
        """Take up a version that a replay made."""
        self._heads[version.id] = heads

    def heads(self, version: VersionRow) -> Heads:
        """Return a version's heads.

        Raises
        ------
        InsufficientDataError
            If it has another encoder than the one whose embeddings are stored.
        """
        if version.space != self.champion.space:
            raise InsufficientDataError(
                what=f"stored embeddings of {ref(version)}, whose encoder is not that of "
                f"{ref(self.champion)}",
                needed=1,
                got=0,
            )
        if version.id not in self._heads:
            bundle = self._open_bundle(version)
            self._heads[version.id] = Heads(state=bundle.head_state(), tasks=bundle.tasks)
        return self._heads[version.id]

    def task(self, version: VersionRow, name: str) -> Task:
        return task_named(self.heads(version).tasks, name, version=version)

    def read(self, version: VersionRow, embeddings: Singles, task: str) -> Singles:
        """Return a task's probabilities [n, k] for embeddings [n, d]."""
        return self.heads(version).probabilities(embeddings, self.task(version, task))

    def probabilities(self, version: VersionRow, scans: Sequence[ScanRow], task: str) -> Floats:
        return self.read(version, self.embeddings(scans), task).astype(np.float64)

    def embeddings(self, scans: Sequence[ScanRow]) -> Singles:
        """Return scans' embeddings, float32 [n, d].

        Those of a first version's training and locked sets may never have been stored: they
        are made of the pixels in the vault, and kept until the replay ends.

        Raises
        ------
        InsufficientDataError
            If some are not stored, and their pixels are no longer kept.
        """
        lacking = [scan for scan in scans if scan.id not in self.vectors]
        if lacking:
            try:
                made = self._embed(self.champion, lacking)
            except DriftwardError as error:
                raise InsufficientDataError(
                    what=f"stored embeddings by {ref(self.champion)} ({error})",
                    needed=len(scans),
                    got=len(scans) - len(lacking),
                ) from error
            for scan, vector in zip(lacking, made, strict=True):
                self.vectors[scan.id] = to_bytes(vector)
        return as_array([self.vectors[scan.id] for scan in scans])

    def parity(self, version: VersionRow) -> ParityMeasurement | None:  # noqa: ARG002
        return None

    def changed(
        self,
        version: VersionRow,  # noqa: ARG002
        scans: Sequence[ScanRow],  # noqa: ARG002
        *,
        task: Task,  # noqa: ARG002
    ) -> dict[str, Floats] | None:
        return None

    def timed(
        self,
        champion: VersionRow,  # noqa: ARG002
        candidate: VersionRow,  # noqa: ARG002
        scans: Sequence[ScanRow],  # noqa: ARG002
    ) -> DeploymentMeasurement | None:
        return None


def _threshold(task: Task) -> float:
    if task.threshold is None:
        raise BadInputError(f"task {task.name} has no threshold: there is nothing to compare")
    return task.threshold


def as_array(vectors: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Return stored embeddings as float32 [n, d]."""
    return np.stack([np.frombuffer(vector, dtype=STORED) for vector in vectors]).astype(
        np.float32
    )
