"""Small real bundles: tiny transformers with random weights, exported and read back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.bundles.assembly import assemble_bundle
from registry.bundles.bundle import Bundle, read_bundle
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData
from registry.bundles.heads import Floats, Task, TaskKind
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Unit

SIDE = 32


@pytest.fixture(scope="session")
def card() -> Card:
    return Card(
        name="small",
        tier=Tier.GENERAL,
        purpose="Stands in for a foundation model in tests.",
        intended_use=IntendedUse(modalities=("CR", "DX"), age_years=(1, 5)),
        not_for=("any patient",),
        training_data=(TrainingData(digest=None, description="random weights", scans=0),),
        licence="Apache-2.0",
    )


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    return Preprocessing(
        unit=Unit.INSTANCE,
        window=DicomWindow(),
        size=(SIDE, SIDE),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


@pytest.fixture(scope="session")
def tasks() -> tuple[Task, Task]:
    return (
        Task(
            name="pneumonia",
            kind=TaskKind.MULTI_CLASS,
            classes=("normal", "pneumonia"),
            positive="pneumonia",
            threshold=0.4,
            temperature=1.5,
        ),
        # A name that torch's ModuleDict has for itself.
        Task(name="type", kind=TaskKind.MULTI_LABEL, classes=("effusion", "nodule", "mass")),
    )


@pytest.fixture(scope="session")
def encoder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the Hugging Face directory of a tiny random encoder, made once per kind."""
    root = tmp_path_factory.mktemp("encoders")

    def make(kind: str) -> Path:
        directory = root / kind
        if not directory.exists():
            _save(kind, directory)
        return directory

    return make


def _save(kind: str, directory: Path) -> None:
    import torch
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    match kind:
        case "vit" | "vit-classifier":
            config = hf.ViTConfig(**small, intermediate_size=32, image_size=SIDE, patch_size=8)
            model = (
                hf.ViTModel(config) if kind == "vit" else hf.ViTForImageClassification(config)
            )
        case "dinov2":
            model = hf.Dinov2Model(hf.Dinov2Config(**small, image_size=SIDE, patch_size=8))
        case "convnext":
            model = hf.ConvNextModel(
                hf.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16])
            )
        case "segformer":
            model = hf.SegformerModel(
                hf.SegformerConfig(
                    depths=[1, 1, 1, 1],
                    hidden_sizes=[8, 8, 16, 16],
                    num_attention_heads=[1, 1, 2, 2],
                    decoder_hidden_size=8,
                )
            )
        case "mobilenet":
            model = hf.MobileNetV2Model(
                hf.MobileNetV2Config(
                    depth_multiplier=0.25, tf_padding=False, layer_norm_eps=1e-5
                )
            )
            for module in model.modules():
                # transformers' initial weights would make every activation vanish.
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(directory)
    logging.enable_progress_bar()


def random_heads(
    tasks: tuple[Task, ...], dimension: int, *, seed: int = 0
) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    state: dict[str, Floats] = {}
    for task in tasks:
        k = len(task.classes)
        state[f"{task.name}.weight"] = rng.normal(size=(k, dimension)).astype(np.float32)
        state[f"{task.name}.bias"] = rng.normal(size=k).astype(np.float32)
    return state


@pytest.fixture(scope="session")
def heads_of() -> Callable[..., dict[str, Floats]]:
    """Return random heads for tasks on an embedding of some dimension."""
    return random_heads


@pytest.fixture(scope="session")
def stored_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tasks: tuple[Task, Task],
) -> Bundle:
    """A DINOv2 with two heads; shared, so nobody may change its files."""
    return assemble_bundle(
        encoder_of("dinov2"),
        card,
        preprocessing,
        tasks,
        random_heads(tasks, 16),
        out_dir=tmp_path_factory.mktemp("bundles") / "stored",
    )


@pytest.fixture
def bundle(stored_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the shared bundle, to be changed at will."""
    return read_bundle(Path(shutil.copytree(stored_bundle.root, tmp_path / "bundle")))
