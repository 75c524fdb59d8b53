"""Making bundles: from parts, from a Hugging Face directory, or from a foreign ONNX file."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from registry.bundles.bundle import (
    CARD,
    CONFIGURATION,
    ENCODER,
    FROZEN_ENCODER,
    GRAPH,
    HEADS,
    PARITY,
    POOLING,
    PREPROCESSING,
    TASKS,
    WEIGHTS,
    Bundle,
    hashed_files,
    read_bundle,
    weights_digest,
)
from registry.bundles.card import Card, write_card
from registry.bundles.heads import (
    Floats,
    HeadState,
    Task,
    checked_head_state,
    require_distinct,
    write_head_state,
    write_tasks,
)
from registry.bundles.onnx_export import attach_heads, export_encoder, graph_dimension
from registry.bundles.onnx_import import normalised_encoder
from registry.bundles.onnx_session import (
    EMBEDDING,
    available_cores,
    graph_outputs,
    open_session,
)
from registry.bundles.parity import (
    PARITY_TOLERANCE,
    Parity,
    embedding_error,
    logits_error,
    parity_pixels,
    write_parity,
)
from registry.bundles.pooling import write_pooling
from registry.bundles.preprocessing import Preprocessing, write_preprocessing
from registry.errors import BundleError, StorageFullError

if TYPE_CHECKING:
    from registry.bundles.network import Embedder

# Pixels to the outputs of a graph, by name.
_Outputs: TypeAlias = Callable[[Floats], Mapping[str, Floats]]


def assemble_bundle(
    encoder: Path,
    card: Card,
    preprocessing: Preprocessing,
    tasks: Sequence[Task],
    heads_state: HeadState,
    *,
    out_dir: Path,
) -> Bundle:
    """Write a bundle to `out_dir`, whole or not at all.

    Parameters
    ----------
    encoder : a directory with config.json and model.safetensors (as
        `network.write_encoder` writes it, or a bundle's `encoder_path`), whose
        other files are left behind, or an ONNX file, which is frozen. Where
        pooling.json is absent, the pooling that fits is chosen.
    card, preprocessing : the declarations
    tasks : what the heads decide; empty for an encoder alone
    heads_state : `<task>.weight` [k, d] and `<task>.bias` [k], float32
    out_dir : must not exist yet

    Raises
    ------
    BundleError
        If `out_dir` exists, or a part cannot be used; nothing is left behind.
    ParityError
        If model.onnx and the encoder disagree beyond the tolerance.
    StorageFullError
        If the disk is full.
    """
    return _assemble(
        encoder, card, preprocessing, tasks, heads_state, out_dir=out_dir, embedding=None
    )


def import_hugging_face(
    directory: Path, card: Card, preprocessing: Preprocessing, out_dir: Path
) -> Bundle:
    """Write a bundle without heads from a Hugging Face directory; see `assemble_bundle`.

    config.json and model.safetensors are taken; the embedding is the model's
    own pooled output where it has one with weights, else its class token, else
    the mean, and encoder/pooling.json says which.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory} is not a directory")
    return assemble_bundle(directory, card, preprocessing, (), {}, out_dir=out_dir)


def import_onnx(
    path: Path,
    card: Card,
    preprocessing: Preprocessing,
    out_dir: Path,
    *,
    embedding: str | None = None,
) -> Bundle:
    """Write a bundle without heads from a third party's ONNX file; see `assemble_bundle`.

    Parameters
    ----------
    path : a graph whose only input is float32 [n, 3, h, w], n open
    card, preprocessing : the declarations
    out_dir : must not exist yet
    embedding : which of the graph's outputs is the embedding, where several could be
    """
    return _assemble(path, card, preprocessing, (), {}, out_dir=out_dir, embedding=embedding)


def measure_parity(bundle: Bundle) -> Parity:
    """Measure again how far model.onnx and the encoder of a bundle are apart.

    For a bundle from elsewhere: its parity.json is a claim.

    Raises
    ------
    ParityError
        If they disagree beyond the tolerance.
    """
    if bundle.pooling is None:
        exact = _frozen_outputs(
            bundle.encoder_path.read_bytes(), bundle.tasks, bundle.head_state()
        )
    else:
        from registry.bundles.network import build_network, network_outputs

        exact = partial(network_outputs, build_network(bundle))
    return _measured(bundle.graph(), exact, bundle.preprocessing, bundle.files)


def _assemble(
    encoder: Path,
    card: Card,
    preprocessing: Preprocessing,
    tasks: Sequence[Task],
    heads_state: HeadState,
    *,
    out_dir: Path,
    embedding: str | None,
) -> Bundle:
    require_distinct(tasks)
    with _written_whole(out_dir) as root:
        write_card(root / CARD, card)
        write_preprocessing(root / PREPROCESSING, preprocessing)
        embedder: Embedder | None = None
        if encoder.is_dir():
            embedder = _take_torch_encoder(encoder, root, preprocessing.shape)
            graph = export_encoder(embedder, preprocessing.shape)
        elif encoder.suffix.lower() == ".onnx" and encoder.is_file():
            graph = normalised_encoder(
                encoder.read_bytes(), shape=preprocessing.shape, embedding=embedding
            )
            (root / FROZEN_ENCODER).write_bytes(graph)
        else:
            raise BundleError(f"{encoder} is neither an encoder's directory nor an ONNX file")
        dimension = graph_dimension(graph)
        state = {name: np.asarray(value) for name, value in heads_state.items()}
        checked_head_state(state, tasks, dimension=dimension)
        if tasks:
            write_tasks(root / TASKS, tasks)
            write_head_state(root / HEADS, state)
        whole = attach_heads(graph, tasks, state)
        (root / GRAPH).write_bytes(whole)
        exact = (
            _frozen_outputs(graph, tasks, state)
            if embedder is None
            else _torch_outputs(embedder, tasks, state, dimension=dimension)
        )
        parity = _measured(whole, exact, preprocessing, hashed_files(root))
        write_parity(root / PARITY, parity)
        bundle = read_bundle(root)
    return replace(bundle, root=out_dir)


def _take_torch_encoder(source: Path, root: Path, shape: tuple[int, int, int]) -> Embedder:
    """Copy an encoder's files into the bundle at `root` and load them from there."""
    from registry.bundles.network import fit_embedder, load_embedder

    (root / ENCODER).mkdir()
    for wanted in (CONFIGURATION, WEIGHTS):
        file = source / Path(wanted).name
        if not file.is_file():
            raise BundleError(f"encoder directory {source} lacks {file.name}{_hint(source)}")
        shutil.copyfile(file, root / wanted)
    if (source / Path(POOLING).name).is_file():
        shutil.copyfile(source / Path(POOLING).name, root / POOLING)
        return load_embedder(root / ENCODER)
    embedder = fit_embedder(root / ENCODER, shape)
    write_pooling(root / POOLING, embedder.pooling)
    return embedder


def _hint(source: Path) -> str:
    if (source / "model.safetensors.index.json").is_file():
        return ": its weights are in several files; save them in one (max_shard_size)"
    if any(source.glob("*.bin")) or any(source.glob("*.pt*")):
        return ": its weights are a pickle, which is never read; save them as safetensors"
    return ""


def _measured(
    graph: bytes, exact: _Outputs, preprocessing: Preprocessing, files: Mapping[str, str]
) -> Parity:
    """Run model.onnx and what it was made from on the same pixels."""
    session = open_session(graph, threads=available_cores())
    errors: dict[str, float] = {}
    for pixels in parity_pixels(preprocessing):
        measured = graph_outputs(session, pixels)
        for name, value in exact(pixels).items():
            compare = embedding_error if name == EMBEDDING else logits_error
            # np.maximum keeps a NaN, which max() may lose.
            errors[name] = float(
                np.maximum(errors.get(name, 0.0), compare(measured[name], value))
            )
    return Parity(
        errors=errors,
        tolerance=PARITY_TOLERANCE,
        graph=files[GRAPH],
        weights=weights_digest(files),
    )


def _torch_outputs(
    embedder: Embedder, tasks: Sequence[Task], state: HeadState, *, dimension: int
) -> _Outputs:
    from registry.bundles.network import Network, network_outputs

    network = Network(embedder, tasks, dimension=dimension).eval()
    network.load_head_state(state)
    return partial(network_outputs, network)


def _frozen_outputs(graph: bytes, tasks: Sequence[Task], state: HeadState) -> _Outputs:
    session = open_session(graph, threads=available_cores())

    def outputs(pixels: Floats) -> dict[str, Floats]:
        embedding = graph_outputs(session, pixels)[EMBEDDING]
        logits = {
            task.output: embedding @ state[f"{task.name}.weight"].T + state[f"{task.name}.bias"]
            for task in tasks
        }
        return {EMBEDDING: embedding, **logits}

    return outputs


@contextmanager
def _written_whole(out_dir: Path) -> Iterator[Path]:
    """Give a new directory beside `out_dir` that takes its place when all went well."""
    if out_dir.exists():
        raise BundleError(f"{out_dir} exists already: a bundle is never written over")
    root = out_dir.with_name(f".{out_dir.name}.{secrets.token_hex(8)}")
    try:
        root.mkdir(parents=True)
        yield root
        root.rename(out_dir)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFullError(f"no space left for bundle {out_dir.name}") from error
        raise BundleError(f"bundle {out_dir} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)
