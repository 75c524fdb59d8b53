"""Champion and candidate timed on the same scans, in turn: how long each takes for one scan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from monitor.embedding.embedding import Embedder
from monitor.embedding.encoders import Encoder, Floats, load_encoder
from monitor.tables import ScanRow
from registry.bundles.bundle import Bundle
from registry.errors import BadInputError, NotFoundError
from retrain.gates.deployment import DeploymentMeasurement

#: Rounds, in each of which both models read every scan; an odd number has a median of its own.
ROUNDS = 15
#: Scans that a round reads, one after another.
SCANS = 8


def timed_side_by_side(
    embedder: Embedder, champion: Bundle, candidate: Bundle, scans: Sequence[ScanRow]
) -> DeploymentMeasurement | None:
    """Time two bundles' ONNX graphs, one scan at a time on one thread.

    What is counted is the thread's time on a processor, so that other work on the machine
    shows as little as can be; which model comes first changes from round to round.

    Returns
    -------
    None where the scans' pixels are no longer kept, or a scan is read as several images.
    """
    chosen = scans[:SCANS]
    models = []
    for bundle in (champion, candidate):
        try:
            pixels = embedder.pixels(bundle, chosen)
        except (BadInputError, NotFoundError):
            return None
        models.append((load_encoder(bundle, device="cpu", threads=1), pixels))
    for encoder, pixels in models:
        _read(encoder, pixels)  # graphs are optimised at their first run
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            started = time.thread_time()
            _read(*models[which])
            seconds[which].append((time.thread_time() - started) / len(chosen))
    return DeploymentMeasurement(
        champion_seconds=tuple(seconds[0]),
        candidate_seconds=tuple(seconds[1]),
        candidate_bytes=_bytes(candidate.root),
    )


def _read(encoder: Encoder, pixels: Floats) -> None:
    for index in range(len(pixels)):
        encoder.run(pixels[index : index + 1])


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
