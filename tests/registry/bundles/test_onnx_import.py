from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.bundles.assembly import assemble_bundle, import_onnx, measure_parity
from registry.bundles.card import Card
from registry.bundles.heads import Floats, Task
from registry.bundles.network import build_network
from registry.bundles.onnx_session import graph_outputs, open_session
from registry.bundles.preprocessing import Preprocessing
from registry.errors import BundleError

D = 6


def foreign_encoder(
    path: Path,
    *,
    pixels: str = "input.1",
    features: str = "features",
    shape: tuple[object, ...] = ("b", 3, 32, 32),
    extra_output: bool = False,
) -> Path:
    """Write an encoder as others export it: own names, sizes left open, one output too many."""
    rng = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(rng.normal(size=(D, 3, 4, 4)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(4, D)).astype(np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", [pixels, "w"], ["map"], strides=[4, 4]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [features]),
        helper.make_node("Gemm", [features, "v"], ["scores"], transB=1),
    ]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, ["b", D, "h", "w"]),
        helper.make_tensor_value_info(features, TensorProto.FLOAT, ["b", "d"]),
    ]
    if extra_output:
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", 4]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(pixels, TensorProto.FLOAT, shape)],
        outputs,
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, path)
    return path


def test_a_foreign_encoder_is_brought_to_our_names_and_computes_the_same(
    card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source = foreign_encoder(tmp_path / "theirs.onnx")
    bundle = import_onnx(source, card, preprocessing, tmp_path / "bundle")
    assert (bundle.dimension, bundle.trainable, bundle.tasks) == (D, False, ())
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    ours = graph_outputs(open_session(bundle.graph(), threads=1), pixels)
    theirs = open_session(source.read_bytes(), threads=1).run(["features"], {"input.1": pixels})
    np.testing.assert_array_equal(ours["embedding"], theirs[0])
    assert ours.keys() == {"embedding"}


def test_heads_are_attached_to_a_frozen_encoder_and_leave_its_space_alone(
    card: Card,
    preprocessing: Preprocessing,
    tasks: tuple[Task, ...],
    heads_of: Callable[..., dict[str, Floats]],
    tmp_path: Path,
) -> None:
    source = foreign_encoder(tmp_path / "theirs.onnx")
    base = import_onnx(source, card, preprocessing, tmp_path / "base")
    state = heads_of(tasks, D)
    bundle = assemble_bundle(
        base.encoder_path, card, preprocessing, tasks, state, out_dir=tmp_path / "headed"
    )
    assert bundle.space == base.space
    assert bundle.digest != base.digest
    assert bundle.parity.errors.keys() == {"embedding", "logits_pneumonia", "logits_type"}
    assert measure_parity(bundle).error <= bundle.parity.tolerance
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    outputs = graph_outputs(open_session(bundle.graph(), threads=1), pixels)
    for task in tasks:
        expected = outputs["embedding"] @ state[f"{task.name}.weight"].T
        expected += state[f"{task.name}.bias"]
        np.testing.assert_allclose(outputs[task.output], expected, atol=1e-4)
    with pytest.raises(BundleError, match="no torch weights"):
        build_network(bundle)


def test_which_output_is_meant_must_be_said_where_several_could_be(
    card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source = foreign_encoder(tmp_path / "theirs.onnx", extra_output=True)
    with pytest.raises(BundleError, match=r"\['map', 'features', 'scores'\] is the embedding"):
        import_onnx(source, card, preprocessing, tmp_path / "bundle")
    with pytest.raises(BundleError, match="an embedding is float32"):
        import_onnx(source, card, preprocessing, tmp_path / "bundle", embedding="map")
    bundle = import_onnx(source, card, preprocessing, tmp_path / "bundle", embedding="scores")
    assert bundle.dimension == 4


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 32), ("n", 1, 32, 32), ("n", 3, 64, 64), ("n", 3, 32)]
)
def test_an_encoder_that_reads_other_pixels_is_refused(
    shape: tuple[object, ...], card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source = foreign_encoder(tmp_path / "theirs.onnx", shape=shape)
    with pytest.raises(BundleError):
        import_onnx(source, card, preprocessing, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [source]


def test_a_name_of_ours_that_means_something_else_is_refused(
    card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source = foreign_encoder(tmp_path / "theirs.onnx", pixels="embedding")
    with pytest.raises(BundleError, match="uses the name 'embedding' for something else"):
        import_onnx(source, card, preprocessing, tmp_path / "bundle")


def test_our_own_names_are_taken_as_they_are(
    card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source = foreign_encoder(tmp_path / "x.onnx", pixels="pixels", features="embedding")
    bundle = import_onnx(source, card, preprocessing, tmp_path / "bundle")
    assert {node.op_type for node in onnx.load(bundle.root / "model.onnx").graph.node} == {
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
