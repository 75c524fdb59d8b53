"""A bundle: the directory that one version of a model is, read and checked as a whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.bundles.card import Card, read_card
from registry.bundles.heads import Floats, Task, read_head_state, read_tasks
from registry.bundles.onnx_safety import LARGEST_GRAPH_BYTES, check_graph, check_signature
from registry.bundles.onnx_session import EMBEDDING
from registry.bundles.parity import Parity, read_parity
from registry.bundles.pooling import Pooling, read_pooling
from registry.bundles.preprocessing import Preprocessing, read_preprocessing
from registry.canonical import Json, digest_of
from registry.errors import BundleError, IntegrityError

CARD, PREPROCESSING, PARITY = "card.yaml", "preprocessing.json", "parity.json"
GRAPH, FROZEN_ENCODER = "model.onnx", "encoder.onnx"
TASKS, HEADS = "heads.json", "heads.safetensors"
ENCODER = "encoder"
CONFIGURATION, WEIGHTS, POOLING = (
    f"{ENCODER}/config.json",
    f"{ENCODER}/model.safetensors",
    f"{ENCODER}/pooling.json",
)

_ALWAYS = frozenset((CARD, PREPROCESSING, PARITY, GRAPH))
_WITH_TASKS = frozenset((TASKS, HEADS))
_TORCH_ENCODER = frozenset((CONFIGURATION, WEIGHTS, POOLING))
_KNOWN = _ALWAYS | _WITH_TASKS | _TORCH_ENCODER | {FROZEN_ENCODER}

# What runs, or can run, when it is read.
_EXECUTABLE = frozenset(
    (
        ".bin", ".ckpt", ".dll", ".dylib", ".h5", ".joblib", ".keras", ".npy", ".npz",
        ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc", ".pyd", ".sh", ".so",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One version's directory, as it was when it was read and found whole."""

    root: Path
    card: Card
    preprocessing: Preprocessing
    tasks: tuple[Task, ...]
    files: Mapping[str, str]  #: relative path -> SHA-256 of the file
    dimension: int  #: of the embedding
    pooling: Pooling | None  #: None where the encoder is encoder.onnx, frozen
    parity: Parity

    @property
    def digest(self) -> str:
        """SHA-256 over all paths and the digests of their files."""
        return digest_of_files(self.files)

    @property
    def encoder_digest(self) -> str:
        """SHA-256 over the encoder's files alone."""
        return encoder_digest(self.files)

    @property
    def space(self) -> str:
        """SHA-256 over encoder and preprocessing: what comparable embeddings share."""
        return digest_of(
            {"encoder": self.encoder_digest, "preprocessing": self.preprocessing.digest}
        )

    @property
    def trainable(self) -> bool:
        """Whether the encoder has weights that torch can train."""
        return self.pooling is not None

    @property
    def encoder_path(self) -> Path:
        """The encoder's directory, or encoder.onnx."""
        return self.root / (ENCODER if self.trainable else FROZEN_ENCODER)

    def task(self, name: str) -> Task:
        """Return the task `name`.

        Raises
        ------
        BundleError
            If the bundle has no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        names = ", ".join(task.name for task in self.tasks) or "none"
        raise BundleError(f"bundle {self.card.name} has no task {name!r}; it has {names}")

    def head_state(self) -> dict[str, Floats]:
        """Return the weights of the heads: `<task>.weight` [k, d], `<task>.bias` [k]."""
        if not self.tasks:
            return {}
        return read_head_state(self.root / HEADS, self.tasks, dimension=self.dimension)

    def graph(self) -> bytes:
        """Return model.onnx, the very bytes that were checked.

        Raises
        ------
        IntegrityError
            If the file has changed since the bundle was read.
        """
        data = (self.root / GRAPH).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.files[GRAPH]:
            raise IntegrityError(f"{GRAPH} of bundle {self.card.name} has changed on disk")
        return data

    def verify(self) -> None:
        """Compare every file with its digest.

        Raises
        ------
        IntegrityError
            If a file has changed, is gone or was added since the bundle was read.
        """
        found = hashed_files(self.root)
        for path in sorted(found.keys() | self.files.keys()):
            if found.get(path) != self.files.get(path):
                raise IntegrityError(f"{path} of bundle {self.card.name} has changed on disk")


def read_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory`; nothing in it is run.

    Raises
    ------
    BundleError
        If a file is unknown, absent, executable by nature, or a link; if a
        declaration is malformed or has an unknown key; if the graph is
        refused by `onnx_safety`; or if the parts do not belong together.
    IncompleteCardError
        If the card lacks what it must say.
    ParityError
        If the recorded error of the graph is beyond the tolerance.
    """
    files = hashed_files(directory)
    _check_complete(files)
    card = read_card(directory / CARD)
    preprocessing = read_preprocessing(directory / PREPROCESSING)
    tasks = read_tasks(directory / TASKS) if TASKS in files else ()
    pooling = read_pooling(directory / POOLING) if POOLING in files else None
    if TASKS in files and not tasks:
        raise BundleError(f"{TASKS} names no task: leave it out, with {HEADS}")
    outputs = {task.output: len(task.classes) for task in tasks}
    dimension = _check_graph(directory / GRAPH, preprocessing, outputs)
    if FROZEN_ENCODER in files:
        encoder_dimension = _check_graph(directory / FROZEN_ENCODER, preprocessing, {})
        if encoder_dimension != dimension:
            raise BundleError(
                f"{FROZEN_ENCODER} has {encoder_dimension} dimensions and {GRAPH} {dimension}"
            )
    if tasks:
        read_head_state(directory / HEADS, tasks, dimension=dimension)
    parity = read_parity(directory / PARITY)
    if (
        parity.graph != files[GRAPH]
        or parity.weights != weights_digest(files)
        or parity.errors.keys() != {EMBEDDING, *outputs}
    ):
        raise BundleError(
            f"{PARITY} was measured on other weights, heads or another {GRAPH}: assemble the "
            "bundle again"
        )
    return Bundle(
        root=directory,
        card=card,
        preprocessing=preprocessing,
        tasks=tasks,
        files=files,
        dimension=dimension,
        pooling=pooling,
        parity=parity,
    )


def hashed_files(directory: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 for every file of a bundle, by path.

    Raises
    ------
    BundleError
        If the directory cannot be listed, or holds anything that is not part
        of a bundle.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory} is not a directory, so no bundle")
    try:
        paths = sorted(_listed(directory, prefix=""))
        return {path: _file_digest(directory / path) for path in paths}
    except OSError as error:
        raise BundleError(
            f"bundle {directory.name} cannot be read: {error.strerror}"
        ) from error


def digest_of_files(files: Mapping[str, str]) -> str:
    """Return the SHA-256 over paths and the digests of their files."""
    value: dict[str, Json] = dict(files)
    return digest_of(value)


def encoder_digest(files: Mapping[str, str]) -> str:
    """Return the SHA-256 over the encoder's files alone."""
    return digest_of_files(
        {path: files[path] for path in files if path in _TORCH_ENCODER | {FROZEN_ENCODER}}
    )


def weights_digest(files: Mapping[str, str]) -> str:
    """Return the SHA-256 over encoder and heads: what model.onnx was made from."""
    made_from = _TORCH_ENCODER | _WITH_TASKS | {FROZEN_ENCODER}
    return digest_of_files({path: files[path] for path in files if path in made_from})


def _listed(directory: Path, *, prefix: str) -> list[str]:
    found: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.is_symlink():
                raise BundleError(f"{path} is a link; a bundle holds files alone")
            if entry.is_dir():
                if path != ENCODER:
                    raise BundleError(f"directory {path} is not part of a bundle")
                found += _listed(directory / ENCODER, prefix=f"{ENCODER}/")
            elif Path(entry.name).suffix.lower() in _EXECUTABLE:
                raise BundleError(
                    f"{path} can run code when it is read, so it is never read: "
                    "keep weights as safetensors"
                )
            elif path not in _KNOWN or not entry.is_file():
                raise BundleError(f"{path} is not part of a bundle: remove it")
            else:
                found.append(path)
    return found


def _check_complete(files: Mapping[str, str]) -> None:
    wanted = set(_ALWAYS)
    if files.keys() & _WITH_TASKS:
        wanted |= _WITH_TASKS
    if FROZEN_ENCODER not in files:
        wanted |= _TORCH_ENCODER
    elif files.keys() & _TORCH_ENCODER:
        raise BundleError(f"a bundle has {ENCODER}/ or {FROZEN_ENCODER}, not both")
    missing = sorted(wanted - files.keys())
    if missing:
        raise BundleError(f"bundle lacks {', '.join(missing)}")


def _check_graph(path: Path, preprocessing: Preprocessing, outputs: Mapping[str, int]) -> int:
    size = path.stat().st_size
    if size > LARGEST_GRAPH_BYTES:
        raise BundleError(f"{path.name} has {size} bytes, above {LARGEST_GRAPH_BYTES}")
    model = check_graph(path.read_bytes(), name=path.name)
    return check_signature(model, size=preprocessing.size, outputs=outputs, name=path.name)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
