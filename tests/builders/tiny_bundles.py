"""Real bundles of a few thousand weights: a vision transformer that reads 16 x 16 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry.bundles.assembly import assemble_bundle
from registry.bundles.bundle import Bundle
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData, UnknownAge
from registry.bundles.heads import Task, TaskKind
from registry.bundles.preprocessing import DicomWindow, Frames, Preprocessing, Unit
from registry.bundles.scan_units import Reading

SIDE, DIMENSION = 16, 16
TASK = "pneumonia"
#: What the demo's children are: radiographs whose age nobody knows.
CHILDREN = IntendedUse(modalities=("CR", "DX"), age_years=(1, 5), unknown_age=UnknownAge.ACCEPT)


def tiny_encoder(directory: Path, *, seed: int = 0, architecture: str = "vit") -> Path:
    """Save an encoder with random weights, and return its directory."""
    import torch
    from transformers.utils import logging

    torch.manual_seed(seed)
    encoder = _network(architecture)
    logging.disable_progress_bar()
    encoder.save_pretrained(directory)
    logging.enable_progress_bar()
    return directory


def _network(architecture: str) -> Any:
    import transformers

    transformer = {
        "hidden_size": DIMENSION,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 4,
    }
    match architecture:
        case "vit":
            settings = transformers.ViTConfig(**transformer, intermediate_size=2 * DIMENSION)
            return transformers.ViTModel(settings, add_pooling_layer=False)
        case "dinov2":
            return transformers.Dinov2Model(transformers.Dinov2Config(**transformer))
        case "convnext":
            return transformers.ConvNextModel(
                transformers.ConvNextConfig(
                    num_stages=2, hidden_sizes=[8, DIMENSION], depths=[1, 1], patch_size=4
                )
            )
        case _:
            return transformers.SwinModel(
                transformers.SwinConfig(
                    image_size=SIDE,
                    patch_size=2,
                    embed_dim=8,
                    depths=[1, 1],
                    num_heads=[2, 2],
                    window_size=4,
                )
            )


def tiny_bundle(
    out_dir: Path,
    *,
    tier: Tier = Tier.GENERAL,
    tasks: Sequence[Task] = (),
    intended_use: IntendedUse = IntendedUse(),  # noqa: B008 - it is frozen
    seed: int = 0,
    wavelet_oversampling: int | None = None,
    frames: Frames | None = None,
    unit: Unit = Unit.INSTANCE,
    reading: Reading | None = None,
    architecture: str = "vit",
) -> Bundle:
    """Assemble a bundle whose encoder and heads are random."""
    encoder = tiny_encoder(
        out_dir.with_name(f"{out_dir.name}-encoder"), seed=seed, architecture=architecture
    )
    rng = np.random.default_rng(seed)
    heads = {}
    for task in tasks:
        k = len(task.classes)
        heads[f"{task.name}.weight"] = rng.normal(size=(k, DIMENSION)).astype(np.float32)
        heads[f"{task.name}.bias"] = rng.normal(size=k).astype(np.float32)
    card = Card(
        name="tiny",
        tier=tier,
        purpose="Stands in for a foundation model in tests.",
        intended_use=intended_use,
        not_for=("any patient",),
        training_data=(TrainingData(digest=None, description="random weights", scans=0),),
        licence="Apache-2.0",
    )
    preprocessing = Preprocessing(
        unit=unit,
        window=DicomWindow(),
        size=(SIDE, SIDE),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        wavelet_oversampling=wavelet_oversampling,
        frames=frames,
        reading=reading,
    )
    return assemble_bundle(encoder, card, preprocessing, tasks, heads, out_dir=out_dir)


def finding(*, threshold: float | None = 0.5) -> Task:
    """Return the task that the tests' champions have."""
    return Task(
        name=TASK,
        kind=TaskKind.MULTI_CLASS,
        classes=("normal", "pneumonia"),
        positive="pneumonia",
        threshold=threshold,
    )
