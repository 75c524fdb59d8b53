"""How an encoder's output becomes the embedding.

It stands beside the weights, in encoder/pooling.json, and is part of their
digest: the preprocessing ends where the encoder begins, and a bundle need not
have heads.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from registry.bundles.documents import read_json, write_json


class Pooling(StrEnum):
    """Which part of a Hugging Face vision model's output is the embedding."""

    POOLER = "pooler_output"  #: what the model itself pools (MobileNetV2, ConvNeXt, DINOv2 …)
    CLASS_TOKEN = "class_token"  #: the first of the last hidden state  # noqa: S105
    MEAN = "mean"  #: the mean over tokens, or over height and width


def read_pooling(path: Path) -> Pooling:
    """Return the pooling in the file `path` (encoder/pooling.json).

    Raises
    ------
    BundleError
        If the file is not valid or has an unknown key.
    """
    section = read_json(path)
    pooling = section.choice("pooling", Pooling)
    section.close()
    return pooling


def write_pooling(path: Path, pooling: Pooling) -> None:
    """Write the pooling to the file `path` (encoder/pooling.json)."""
    write_json(path, {"pooling": pooling.value})
