"""How gates get a version's readings: from its bundle and the vault, or from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from monitor.embedding.embedding import Embedder
from monitor.tables import ScanRow
from registry.bundle_store import BundleStore
from registry.bundles.heads import Task
from registry.bundles.parity import PARITY_BATCHES
from registry.errors import BadInputError
from registry.versions import VersionRow, ref
from retrain.acquisition_changes import read_changed
from retrain.gates.deployment import DeploymentMeasurement
from retrain.gates.integrity import ParityMeasurement
from retrain.gates.results import Floats
from retrain.side_by_side import timed_side_by_side


class Reader(Protocol):
    """Reads scans by versions."""

    def task(self, version: VersionRow, name: str) -> Task:
        """Return a version's task of that name.

        Raises
        ------
        BadInputError
            If it has none.
        """
        ...

    def probabilities(self, version: VersionRow, scans: Sequence[ScanRow], task: str) -> Floats:
        """Return the probability of each of a task's classes for each scan, [n, k]."""
        ...

    def parity(self, version: VersionRow) -> ParityMeasurement | None:
        """Return how far ONNX and torch differ, None where that was not measured."""
        ...

    def changed(
        self, version: VersionRow, scans: Sequence[ScanRow], *, task: Task
    ) -> dict[str, Floats] | None:
        """Return the same as `probabilities` under each small change of the acquisition.

        None where pixels are not to be had.
        """
        ...

    def timed(
        self, champion: VersionRow, candidate: VersionRow, scans: Sequence[ScanRow]
    ) -> DeploymentMeasurement | None:
        """Return how long both take for a scan, None where that cannot be measured."""
        ...


class BundleReader:
    """Reads pixels by the versions' own graphs, as the monitor does."""

    def __init__(self, bundles: BundleStore, embedder: Embedder) -> None:
        self._bundles = bundles
        self._embedder = embedder

    def task(self, version: VersionRow, name: str) -> Task:
        return task_named(self._bundles.open(version).tasks, name, version=version)

    def probabilities(self, version: VersionRow, scans: Sequence[ScanRow], task: str) -> Floats:
        return self._embedder.probabilities(version, scans, task)

    def parity(self, version: VersionRow) -> ParityMeasurement | None:
        bundle = self._bundles.open(version)
        return ParityMeasurement(max_abs_error=bundle.parity.error, scans=sum(PARITY_BATCHES))

    def changed(
        self, version: VersionRow, scans: Sequence[ScanRow], *, task: Task
    ) -> dict[str, Floats] | None:
        return read_changed(self._embedder, self._bundles, version, scans, task=task)

    def timed(
        self, champion: VersionRow, candidate: VersionRow, scans: Sequence[ScanRow]
    ) -> DeploymentMeasurement | None:
        return timed_side_by_side(
            self._embedder, self._bundles.open(champion), self._bundles.open(candidate), scans
        )


def task_named(tasks: Sequence[Task], name: str, *, version: VersionRow) -> Task:
    """Return one of a version's tasks.

    Raises
    ------
    BadInputError
        If it has none of that name.
    """
    for task in tasks:
        if task.name == name:
            return task
    raise BadInputError(f"{ref(version)} has no task {name}: it cannot be compared")
