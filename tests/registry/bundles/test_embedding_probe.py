from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.bundles.assembly import import_hugging_face, import_onnx
from registry.bundles.bundle import Bundle
from registry.bundles.card import Card
from registry.bundles.embedding_probe import require_own_embeddings
from registry.bundles.preprocessing import Preprocessing
from registry.errors import BundleError

Build = Callable[[Sequence[tuple[str, list[str]]]], Bundle]


@pytest.fixture
def build(card: Card, preprocessing: Preprocessing, tmp_path: Path) -> Build:
    """Return a frozen encoder: means of random filters, and further nodes on these."""

    def make(further: Sequence[tuple[str, list[str]]]) -> Bundle:
        rng = np.random.default_rng(3)
        constants = {
            "w": rng.normal(size=(6, 3, 4, 4)).astype(np.float32),
            "zero": np.zeros(1, np.float32),
            "tiny": np.full(1, 1e-9, np.float32),
            "bias": rng.normal(size=6).astype(np.float32),
            "batch": np.array([0], np.int64),
        }
        nodes = [
            helper.make_node("Conv", ["pixels", "w"], ["map"], strides=[4, 4]),
            helper.make_node("Relu", ["map"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["step0"]),
        ]
        for number, (operator, operands) in enumerate(further):
            last = f"step{number}"
            inputs = [last if name == "it" else name for name in operands]
            nodes.append(helper.make_node(operator, inputs, [f"step{number + 1}"]))
        nodes.append(helper.make_node("Identity", [f"step{len(further)}"], ["embedding"]))
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 6])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        path = tmp_path / "theirs.onnx"
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8),
            path,
        )
        return import_onnx(path, card, preprocessing, tmp_path / "bundle")

    return make


def test_an_encoder_of_each_scan_by_itself_passes(build: Build) -> None:
    require_own_embeddings(build([]))


@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext", "segformer", "mobilenet"])
def test_encoders_of_transformers_pass(
    kind: str,
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tmp_path: Path,
) -> None:
    require_own_embeddings(
        import_hugging_face(encoder_of(kind), card, preprocessing, tmp_path / "bundle")
    )


def test_an_encoder_that_reckons_over_the_batch_is_refused(build: Build) -> None:
    mean_over_batch = ("ReduceMean", ["step0", "batch"])
    bundle = build([mean_over_batch, ("Sub", ["step0", "it"])])
    with pytest.raises(BundleError, match="otherwise when other scans are in its batch"):
        require_own_embeddings(bundle)


@pytest.mark.parametrize(
    "further",
    [
        [("Mul", ["it", "zero"])],
        [("Mul", ["it", "zero"]), ("Add", ["it", "bias"])],
        # Stored in half precision, nothing of this is left.
        [("Mul", ["it", "tiny"]), ("Add", ["it", "bias"])],
    ],
)
def test_an_encoder_that_tells_no_scans_apart_is_refused(
    further: Sequence[tuple[str, list[str]]], build: Build
) -> None:
    bundle = build(further)
    with pytest.raises(BundleError, match="gives every scan the same embedding"):
        require_own_embeddings(bundle)
