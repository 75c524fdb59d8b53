"""The demo's general encoder: the shipped weights, made into a bundle."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from registry.bundles.assembly import assemble_bundle
from registry.bundles.bundle import Bundle
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Resample, Unit

NAME = "general-imagenet"
#: Pixels; the sources have 28, so a larger input would show the encoder nothing more.
SIDE = 64
#: Of ImageNet's images, by channel, as the weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def general_bundle(out_dir: Path) -> Bundle:
    """Assemble the general bundle at `out_dir`."""
    card = Card(
        name=NAME,
        tier=Tier.GENERAL,
        purpose="A general image encoder: the start of a lineage, and a fixed monitoring encoder.",
        intended_use=IntendedUse(),
        not_for=(
            "any finding by itself: it has no head",
            "clinical use: it was trained on photographs",
        ),
        training_data=(
            TrainingData(
                digest=None, description="ImageNet-1k, trained by others", scans=1_281_167
            ),
        ),
        licence="BSD-3-Clause",
    )
    preprocessing = Preprocessing(
        unit=Unit.INSTANCE,
        window=DicomWindow(),
        size=(SIDE, SIDE),
        mean=MEAN,
        std=STD,
        resample=Resample.BICUBIC,
    )
    with as_file(files("api.demo") / "encoder") as encoder:
        return assemble_bundle(encoder, card, preprocessing, (), {}, out_dir=out_dir)
