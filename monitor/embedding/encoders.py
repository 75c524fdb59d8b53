"""From prepared pixels to embeddings and probabilities, with the bundle that does it.

On a CPU the bundle's graph runs in ONNX Runtime; on a GPU its torch network
does, or, where the bundle has none, ONNX Runtime's CUDA provider. Both are
float32, and their parity was measured when the bundle was made: it is one
space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.embedding.aggregation import aggregated, aggregated_probabilities
from registry.bundles.bundle import Bundle
from registry.bundles.onnx_session import (
    EMBEDDING,
    available_cores,
    graph_outputs,
    open_session,
)
from registry.bundles.scan_units import Aggregate
from registry.errors import BadInputError, EmbeddingsError, SetupError, SpaceMismatchError

Floats: TypeAlias = NDArray[np.float32]

# The outputs of one batch by the names of the graph: embedding, logits_<task>.
Run: TypeAlias = Callable[[Floats], Mapping[str, Floats]]

# Large enough that a batch's fixed cost does not show, small enough that the
# activations of a ViT-B stay within a few hundred MiB of memory.
CPU_BATCH, GPU_BATCH = 32, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What a bundle says of n scans."""

    embeddings: Floats  #: float32 [n, d]
    probabilities: Mapping[str, Floats]  #: task -> float32 [n, k], calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A bundle that is ready to embed; `load_encoder` makes one."""

    bundle: Bundle
    device: str  #: "cpu" or "cuda"
    batch: int  #: scans that are run at once
    run: Run

    @property
    def space(self) -> str:
        """The digest that embeddings must share to be compared."""
        return self.bundle.space

    def require_space(self, space: str) -> None:
        """Refuse to stand in for another space.

        Raises
        ------
        SpaceMismatchError
            If this encoder's embeddings belong to another space.
        """
        if space != self.space:
            raise SpaceMismatchError(
                f"bundle {self.bundle.card.name} embeds into space {self.space[:12]}, not "
                f"{space[:12]}: embeddings of two spaces are never compared"
            )

    def embed(self, pixels: Floats, *, frames: Sequence[int] | None = None) -> Encoded:
        """Return embeddings and probabilities.

        Equal pixels in equal order give equal bits, on one machine with one
        number of threads; a scan's last bits may depend on how many are
        embedded with it.

        Parameters
        ----------
        pixels : float32, shape [n, 3, h, w], as the bundle's preprocessing
            prepares them; n may be 0
        frames : how many of them in turn are one scan; by default each is.
            The embedding of frames of one instance is their mean, and their
            probabilities are those of the mean logits: heads are linear, so
            that these are the logits of the mean embedding. Instances of a
            series or a study are aggregated as the bundle declares.

        Returns
        -------
        float32 embeddings [n, d], and for each task float32 [n, k]

        Raises
        ------
        BadInputError
            If the pixels are of another shape or type, or not finite.
        EmbeddingsError
            If the encoder returns values that are not finite.
        """
        self._check(pixels)
        if frames is not None and (sum(frames) != len(pixels) or min(frames, default=1) < 1):
            raise BadInputError(
                f"{len(pixels)} images are not {sum(frames)} frames of {len(frames)} scans"
            )
        tasks = self.bundle.tasks
        embeddings = np.empty((len(pixels), self.bundle.dimension), dtype=np.float32)
        logits = {
            task.output: np.empty((len(pixels), len(task.classes)), dtype=np.float32)
            for task in tasks
        }
        for part in self._parts(len(pixels)):
            outputs = self.run(np.ascontiguousarray(pixels[part]))
            embeddings[part] = outputs[EMBEDDING]
            for name, values in logits.items():
                values[part] = outputs[name]
        if not np.isfinite(embeddings).all() or not all(
            np.isfinite(values).all() for values in logits.values()
        ):
            raise EmbeddingsError(
                f"bundle {self.bundle.card.name} returned values that are not finite"
            )
        reading = self.bundle.preprocessing.reading
        several = frames if frames is not None and any(count != 1 for count in frames) else None
        if several is not None and reading is None:
            embeddings = aggregated(embeddings, several, Aggregate.MEAN)
            logits = {
                name: aggregated(values, several, Aggregate.MEAN)
                for name, values in logits.items()
            }
        probabilities: Mapping[str, Floats] = {
            task.name: task.probabilities(logits[task.output]) for task in tasks
        }
        if several is not None and reading is not None:
            embeddings = aggregated(embeddings, several, reading.embedding)
            probabilities = aggregated_probabilities(
                probabilities, tasks, several, reading.probabilities
            )
        return Encoded(embeddings=embeddings, probabilities=probabilities)

    def _parts(self, n: int) -> Iterator[slice]:
        for start in range(0, n, self.batch):
            yield slice(start, min(start + self.batch, n))

    def _check(self, pixels: Floats) -> None:
        wanted = self.bundle.preprocessing.shape
        if pixels.dtype != np.float32 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
            raise BadInputError(
                f"bundle {self.bundle.card.name} reads pixels of float32 "
                f"[n, {', '.join(str(side) for side in wanted)}], got {pixels.dtype} "
                f"{list(pixels.shape)}: prepare them with the bundle's own preprocessing"
            )
        if not np.isfinite(pixels).all():
            raise BadInputError("pixels hold values that are not finite")


def load_encoder(
    bundle: Bundle,
    device: str = "auto",
    *,
    threads: int | None = None,
    batch: int | None = None,
) -> Encoder:
    """Return the encoder of a bundle.

    Parameters
    ----------
    bundle : as `read_bundle` returned it
    device : "cpu", "cuda", or "auto": a GPU where there is one that can run the bundle
    threads : for ONNX Runtime on a CPU; by default every core that this
        process may use
    batch : scans that are run at once; by default 32 on a CPU, 256 on a GPU

    Raises
    ------
    BadInputError
        If `device`, `threads` or `batch` is none of these.
    SetupError
        If "cuda" is asked for and cannot be had.
    BundleError
        If the bundle's graph cannot be run.
    IntegrityError
        If the graph has changed on disk.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise BadInputError(f"device {device!r} is none of auto, cpu, cuda")
    for what, number in (("threads", threads), ("batch", batch)):
        if number is not None and number < 1:
            raise BadInputError(f"{what} must be at least 1, got {number}")
    gpu = None if device == "cpu" else _gpu_run(bundle)
    if gpu is not None:
        return Encoder(bundle=bundle, device="cuda", batch=batch or GPU_BATCH, run=gpu)
    if device == "cuda":
        raise SetupError(
            "device cuda cannot be had: torch sees no GPU, or the bundle is ONNX alone and "
            "ONNX Runtime has no CUDA provider; use device cpu"
        )
    return Encoder(
        bundle=bundle,
        device="cpu",
        batch=batch or CPU_BATCH,
        run=_graph_run(bundle, threads or available_cores(), ("CPUExecutionProvider",)),
    )


def _gpu_run(bundle: Bundle) -> Run | None:
    if bundle.trainable:
        import torch

        if not torch.cuda.is_available():
            return None
        from registry.bundles.network import build_network, network_outputs

        return partial(network_outputs, build_network(bundle).to("cuda"), device="cuda")
    import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return None
    return _graph_run(bundle, 1, (provider, "CPUExecutionProvider"))


def _graph_run(bundle: Bundle, threads: int, providers: tuple[str, ...]) -> Run:
    return partial(
        graph_outputs, open_session(bundle.graph(), threads=threads, providers=providers)
    )
