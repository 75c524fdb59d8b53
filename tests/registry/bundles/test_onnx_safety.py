from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from registry.bundles.onnx_safety import (
    LARGEST_TENSOR_ELEMENTS,
    check_graph,
    check_signature,
)
from registry.errors import BundleError

PIXELS = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
EMBEDDING = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 192])


def graph_of(
    nodes: Sequence[onnx.NodeProto] = (),
    *,
    weights: Sequence[onnx.TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (PIXELS,),
    outputs: Sequence[onnx.ValueInfoProto] = (EMBEDDING,),
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> onnx.ModelProto:
    """Return a graph that flattens the pixels, with `nodes` before it."""
    flatten = helper.make_node("Flatten", ["pixels"], ["embedding"])
    graph = helper.make_graph([*nodes, flatten], "g", inputs, outputs, weights)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def constant(name: str, values: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def inside_if(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return an If whose branch holds `node`, which makes `inner`."""
    inner = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph([node], "branch", [], [inner])
    other = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["inner"])], "other", [], [inner]
    )
    return helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=other)


YES = numpy_helper.from_array(np.array(True), "yes")


def test_a_plain_graph_passes() -> None:
    model = check_graph(graph_of().SerializeToString(), name="x.onnx")
    assert check_signature(model, size=(8, 8), outputs={}, name="x.onnx") == 192


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            graph_of(weights=[external(constant("w", [1, 2]))]),
            "data outside the file",
        ),
        (
            graph_of(
                [helper.make_node("Constant", [], ["c"], value=external(constant("deep", [1])))]
            ),
            r"data outside the file \(deep\)",
        ),
        (
            graph_of(
                [
                    inside_if(
                        helper.make_node(
                            "Constant", [], ["inner"], value=external(constant("deeper", [1]))
                        )
                    )
                ],
                weights=[YES],
            ),
            r"data outside the file \(deeper\)",
        ),
        (
            graph_of(
                [helper.make_node("FusedConv", ["pixels"], ["x"], domain="com.microsoft")],
                opsets=[("", 17), ("com.microsoft", 1)],
            ),
            r"operator com\.microsoft\.FusedConv",
        ),
        (
            graph_of(
                [inside_if(helper.make_node("Run", ["pixels"], ["inner"], domain="elsewhere"))],
                weights=[YES],
                opsets=[("", 17), ("elsewhere", 1)],
            ),
            r"operator elsewhere\.Run",
        ),
        (graph_of([helper.make_node("Shell", ["pixels"], ["x"])]), "operator Shell"),
        (
            graph_of([helper.make_node("RandomNormalLike", ["pixels"], ["x"])]),
            "RandomNormalLike, which is random",
        ),
        (
            graph_of(
                [
                    helper.make_node(
                        "Loop",
                        ["", "yes"],
                        [],
                        body=helper.make_graph([], "body", [], []),
                    )
                ],
                weights=[YES],
            ),
            "Loop, which may run without end",
        ),
        (
            graph_of(
                [helper.make_node("ConstantOfShape", ["shape"], ["x"])],
                weights=[constant("shape", [1 << 20, 1 << 20])],
            ),
            r"'x' would have the shape \[1048576, 1048576\]",
        ),
        (
            graph_of(
                [
                    helper.make_node("Constant", [], ["s"], value=constant("", [1 << 34])),
                    helper.make_node("Shape", ["pixels"], ["p"]),
                    helper.make_node("Concat", ["s", "p"], ["all"], axis=0),
                    helper.make_node("Expand", ["pixels", "all"], ["x"]),
                ]
            ),
            "'x' would have the shape",
        ),
        (
            graph_of(weights=[TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1])]),
            r"'w' would have the shape \[-1\]",
        ),
        (onnx.ModelProto(), "is empty: export or copy it again"),
        (graph_of(opsets=[("elsewhere", 1)]), "names no operator set of ONNX"),
        (graph_of(opsets=[("", 9)]), "operator set 9; supported are .* export it with one"),
        (graph_of(opsets=[("", 9999)]), "operator set 9999"),
        (
            graph_of([helper.make_node("Relu", ["nowhere"], ["x"])]),
            "not a valid ONNX graph",
        ),
    ],
)
def test_what_a_graph_must_not_hold_is_refused_by_name(
    model: onnx.ModelProto, says: str
) -> None:
    with pytest.raises(BundleError, match=says):
        check_graph(model.SerializeToString(), name="x.onnx")


def test_functions_are_refused() -> None:
    model = graph_of()
    model.functions.add(name="f", domain="mine")
    with pytest.raises(BundleError, match="functions or training"):
        check_graph(model.SerializeToString(), name="x.onnx")


def test_a_weight_may_claim_no_more_than_one_scan_may_need() -> None:
    model = graph_of(weights=[constant("w", [1])])
    model.graph.initializer[0].dims[:] = [LARGEST_TENSOR_ELEMENTS + 1]
    with pytest.raises(BundleError, match="'w' would have the shape"):
        check_graph(model.SerializeToString(), name="x.onnx")


@given(
    at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.none() | st.integers(0, 10_000)
)
@settings(max_examples=100)
def test_a_damaged_graph_passes_or_is_a_clear_error(
    at: int, byte: int, cut: int | None
) -> None:
    damaged = bytearray(graph_of(weights=[constant("w", [1, 2, 3])]).SerializeToString())
    damaged[at % len(damaged)] = byte
    if cut is not None:
        del damaged[cut % len(damaged) :]
    with contextlib.suppress(BundleError):
        assert check_graph(bytes(damaged), name="x.onnx").graph is not None


def test_what_is_no_graph_at_all_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x04\x95pickle", b"<html>"):
        with pytest.raises(BundleError, match=r"^x\.onnx"):
            check_graph(content, name="x.onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected", "says"),
    [
        (
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 9, 9])],
            [EMBEDDING],
            {},
            r"input must be pixels float\[n, 3, 8, 8\], got pixels float\[n, 3, 9, 9\]",
        ),
        (
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8, 8])],
            [EMBEDDING],
            {},
            r"got pixels float\[1, 3, 8, 8\]",
        ),
        (
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 3, 8, 8])],
            [EMBEDDING],
            {},
            r"got pixels uint8",
        ),
        (
            [PIXELS],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", "d"])],
            {},
            "with d fixed",
        ),
        ([PIXELS], [EMBEDDING], {"logits_x": 2}, "outputs must be .*logits_x"),
        (
            [PIXELS],
            [
                EMBEDDING,
                helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["n", 1]),
            ],
            {},
            "got .*extra",
        ),
    ],
)
def test_inputs_and_outputs_that_are_not_the_bundles_are_shown_beside_those_that_are(
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    expected: dict[str, int],
    says: str,
) -> None:
    model = graph_of(inputs=inputs, outputs=outputs)
    with pytest.raises(BundleError, match=says):
        check_signature(model, size=(8, 8), outputs=expected, name="x.onnx")
