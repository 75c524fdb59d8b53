"""A bundle as a torch network: encoder, pooling and heads.

This module imports torch; import it where a network is used first. No code
from a bundle is ever run and nothing is fetched: transformers builds the
architecture that config.json names from its own classes, and weights come
from safetensors alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from registry.bundles.bundle import Bundle
from registry.bundles.documents import parse_json, read_text
from registry.bundles.heads import Floats, Task
from registry.bundles.onnx_session import EMBEDDING
from registry.bundles.pooling import Pooling, read_pooling, write_pooling
from registry.canonical import Json
from registry.errors import BundleError

# Attention that transformers brings itself; any other name can make it fetch a kernel.
_BUILT_IN_ATTENTION = ("eager", "sdpa", None, True, False)


class Embedder(nn.Module):
    """A Hugging Face vision model and its pooling: pixels [n, 3, h, w] to embedding [n, d]."""

    def __init__(self, encoder: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.encoder(pixel_values=pixels)
        match self.pooling:
            case Pooling.POOLER:
                pooled: Tensor = output.pooler_output.flatten(1)
            case Pooling.CLASS_TOKEN:
                pooled = output.last_hidden_state[:, 0]
            case Pooling.MEAN:
                hidden = output.last_hidden_state
                # Tokens [n, t, d], or a feature map [n, d, h, w].
                pooled = hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
        return pooled


class Network(nn.Module):
    """An embedder with one linear head per task.

    `forward` returns the embedding [n, d] and, by task, the logits [n, k].
    """

    def __init__(self, embedder: Embedder, tasks: Sequence[Task], *, dimension: int) -> None:
        super().__init__()
        self.embedder = embedder
        self.tasks = tuple(tasks)
        # Keys are output names: a task may be called "type" or "keys", which
        # a ModuleDict, having attributes of these names, would refuse.
        self.heads = nn.ModuleDict(
            {task.output: nn.Linear(dimension, len(task.classes)) for task in tasks}
        )
        for head in self.heads.values():
            # A linear head on a softmax or sigmoid has one minimum: zero needs no seed.
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        embedding: Tensor = self.embedder(pixels)
        return embedding, {task.name: self.heads[task.output](embedding) for task in self.tasks}

    def head_state(self) -> dict[str, Floats]:
        """Return the weights of the heads as a bundle stores them, float32 copies."""
        state: dict[str, Floats] = {}
        for task in self.tasks:
            for name, value in self.heads[task.output].state_dict().items():
                state[f"{task.name}.{name}"] = np.array(
                    value.detach().to("cpu", torch.float32).numpy()
                )
        return state

    def load_head_state(self, state: Mapping[str, Floats]) -> None:
        """Set the weights of the heads that `state` names; other heads stay as they are."""
        with torch.no_grad():
            for task in self.tasks:
                if f"{task.name}.weight" in state:
                    for name, parameter in self.heads[task.output].named_parameters():
                        parameter.copy_(torch.from_numpy(state[f"{task.name}.{name}"].copy()))


def build_network(bundle: Bundle, *, new_tasks: Sequence[Task] = ()) -> Network:
    """Return the bundle's network in evaluation mode, float32, on the CPU.

    Parameters
    ----------
    bundle : a bundle with an encoder directory
    new_tasks : further tasks, for training; their heads start at zero

    Raises
    ------
    BundleError
        If the bundle has only encoder.onnx, or its weights do not fill the
        architecture that its configuration names.
    IntegrityError
        If a file has changed since the bundle was read.
    """
    if bundle.pooling is None:
        raise BundleError(
            f"bundle {bundle.card.name} has encoder.onnx and no torch weights: its encoder is "
            "frozen; heads can be trained on its embeddings"
        )
    bundle.verify()
    embedder = load_embedder(bundle.encoder_path)
    network = Network(embedder, (*bundle.tasks, *new_tasks), dimension=bundle.dimension)
    network.load_head_state(bundle.head_state())
    return network.eval()


def network_outputs(
    network: Network, pixels: Floats, *, device: str = "cpu"
) -> dict[str, Floats]:
    """Return what the bundle's graph would: `embedding` [n, d] and `logits_<task>` [n, k].

    Parameters
    ----------
    network : in evaluation mode, on `device`
    pixels : float32, shape [n, 3, h, w]
    device : torch's name of it, say "cuda"
    """
    cudnn = torch.backends.cudnn.flags(
        enabled=True,
        benchmark=False,
        deterministic=True,
        allow_tf32=False,  # it keeps ten bits of the mantissa, fewer than parity allows
    )
    with torch.inference_mode(), cudnn:
        embedding, logits = network(torch.from_numpy(pixels).to(device))
    return {
        EMBEDDING: embedding.cpu().numpy(),
        **{task.output: logits[task.name].cpu().numpy() for task in network.tasks},
    }


def load_embedder(directory: Path) -> Embedder:
    """Return the encoder in `directory` with the pooling that stands beside it.

    Raises
    ------
    BundleError
        If it cannot be built, or the pooling asks for weights that are not there.
    """
    pooling = read_pooling(directory / "pooling.json")
    encoder, untrained = _load_encoder(directory)
    if untrained and pooling is Pooling.POOLER:
        raise BundleError(
            f"encoder lacks weights for {untrained[0]}: its pooling cannot be {pooling.value}"
        )
    return _embedder(encoder, pooling)


def fit_embedder(directory: Path, shape: tuple[int, int, int]) -> Embedder:
    """Return the encoder in `directory` with the pooling that fits it.

    The model's own, where it has one whose weights are there; else the class
    token, where it has one; else the mean.

    Parameters
    ----------
    directory : with config.json and model.safetensors
    shape : of one prepared scan, (3, h, w)

    Raises
    ------
    BundleError
        If the encoder cannot be built, or does not turn pixels of this shape
        into features.
    """
    encoder, untrained = _load_encoder(directory)
    try:
        with torch.no_grad():
            output = encoder(pixel_values=torch.zeros(1, *shape))
    except Exception as error:  # any model's own code, fed with our shape
        raise BundleError(
            f"encoder cannot read pixels of shape {list(shape)}: {_first_line(error)}"
        ) from error
    if not untrained and getattr(output, "pooler_output", None) is not None:
        return _embedder(encoder, Pooling.POOLER)
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None or hidden.ndim not in {3, 4}:
        raise BundleError(
            "encoder returns neither pooler_output nor last_hidden_state: "
            "it is no vision encoder whose features can be pooled"
        )
    has_class_token = any(name.endswith("cls_token") for name, _ in encoder.named_parameters())
    by_token = hidden.ndim == 3 and has_class_token
    return _embedder(encoder, Pooling.CLASS_TOKEN if by_token else Pooling.MEAN)


def write_encoder(embedder: Embedder, directory: Path) -> None:
    """Write config.json, model.safetensors and pooling.json into the new `directory`.

    The directory is what `assemble_bundle` takes after the encoder was trained.
    """
    directory.mkdir(parents=True)
    with _quiet_transformers():
        embedder.encoder.save_pretrained(directory, max_shard_size="1TB")  # type: ignore[operator]
    write_pooling(directory / "pooling.json", embedder.pooling)


def _load_encoder(directory: Path) -> tuple[nn.Module, list[str]]:
    """Return the encoder and the names of pooler weights that the file does not hold."""
    _check_configuration(directory / "config.json")
    from transformers import AutoModel

    try:
        with _quiet_transformers():
            encoder, report = AutoModel.from_pretrained(
                str(directory),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                # Reported, and refused below in words that say what to do.
                ignore_mismatched_sizes=True,
            )
    except SafetensorError as error:
        raise BundleError(
            "model.safetensors is damaged or cut short: copy it again from where it was published "
            f"({_first_line(error)})"
        ) from error
    except Exception as error:  # whatever a foreign configuration provokes
        raise BundleError(f"encoder cannot be built: {_first_line(error)}") from error
    _require_images(encoder)
    untrained = sorted(report["missing_keys"])
    # transformers fills absent weights at random. A pooler's can be done
    # without; any other would make the embedding noise.
    absent = [name for name in untrained if not name.startswith("pooler.")]
    if absent:
        raise BundleError(
            f"model.safetensors lacks {len(absent)} of the weights that config.json asks for, "
            f"{absent[0]} first"
        )
    _require_sizes(report["mismatched_keys"])
    return encoder.eval(), untrained


def _require_images(encoder: nn.Module) -> None:
    if "pixel_values" not in inspect.signature(encoder.forward).parameters:
        raise BundleError(
            f"encoder/config.json: {type(encoder).__name__} reads no images: name the directory "
            "of a vision encoder, with its own config.json"
        )


def _require_sizes(mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Refuse weights whose sizes are not the configuration's: (name, in the file, asked for)."""
    if mismatched:
        name, has, wanted = min(mismatched)
        raise BundleError(
            f"model.safetensors has {len(mismatched)} weights of other sizes than config.json asks "
            f"for, {name} first ({list(has)} instead of {list(wanted)}): they are not of one model; "
            "take both files from where it was published, unchanged"
        )


def _check_configuration(path: Path) -> None:
    configuration = parse_json(read_text(path), name="encoder/config.json")
    if not isinstance(configuration, dict) or not isinstance(
        configuration.get("model_type"), str
    ):
        raise BundleError("encoder/config.json names no model_type that transformers knows")
    for key, value in _entries(configuration):
        if key in {"auto_map", "custom_pipelines", "quantization_config"}:
            raise BundleError(
                f"encoder/config.json has {key!r}: code from elsewhere is never run; save the "
                "model with a class of transformers itself"
            )
        if "attn_implementation" in key and value not in _BUILT_IN_ATTENTION:
            raise BundleError(
                f"encoder/config.json: {key!r} must be eager or sdpa; others fetch code"
            )


def _entries(value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _entries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item)


def _embedder(encoder: nn.Module, pooling: Pooling) -> Embedder:
    if pooling is not Pooling.POOLER and isinstance(
        getattr(encoder, "pooler", None), nn.Module
    ):
        # It is not used, and may never have been trained: it must not be stored.
        del encoder.pooler
        encoder.register_module("pooler", None)
    return Embedder(encoder, pooling).eval()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep progress bars and load reports off the terminal; what they say is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
