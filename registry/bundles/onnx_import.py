"""A third party's encoder, which is ONNX alone: brought to the names that every bundle has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from registry.bundles.onnx_export import serialised, set_output
from registry.bundles.onnx_safety import check_graph
from registry.bundles.onnx_session import EMBEDDING, PIXELS, graph_outputs, open_session
from registry.errors import BundleError

if TYPE_CHECKING:
    import onnx


def normalised_encoder(
    data: bytes, *, shape: tuple[int, int, int], embedding: str | None = None
) -> bytes:
    """Return the graph as `pixels` [n, 3, h, w] to `embedding` [n, d], float32.

    Parameters
    ----------
    data : a serialised ONNX model with one image as its input
    shape : of one prepared scan, (3, h, w)
    embedding : which output is the embedding; where it is not given, the
        output of that name, or else the only one that is [n, d]

    Raises
    ------
    BundleError
        If the graph is refused by `onnx_safety`, reads anything else than
        such pixels in batches of any size, or leaves open which output is meant.
    """
    import onnx
    from onnx import helper

    name = "encoder.onnx"
    model = check_graph(data, name=name)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    if len(images) != 1 or not _reads(images[0], shape):
        raise BundleError(
            f"{name} must have one input, float32 [n, {', '.join(map(str, shape))}] with n "
            f"left open, got {[value.name for value in images]}"
        )
    source = _embedding_output(graph, embedding)
    taken = {tensor for node in graph.node for tensor in (*node.input, *node.output)}
    # Identities rather than renaming: nothing inside the graph is touched,
    # and the runtime removes them.
    for ours, theirs in ((PIXELS, images[0].name), (EMBEDDING, source)):
        if ours != theirs and ours in taken | weights:
            raise BundleError(f"{name} uses the name {ours!r} for something else: rename it")
    if images[0].name != PIXELS:
        graph.node.insert(0, helper.make_node("Identity", [PIXELS], [images[0].name]))
    if source != EMBEDDING:
        graph.node.append(helper.make_node("Identity", [source], [EMBEDDING]))
    images[0].CopyFrom(
        helper.make_tensor_value_info(PIXELS, onnx.TensorProto.FLOAT, ["n", *shape])
    )
    del graph.output[:]
    set_output(graph, EMBEDDING, _dimension(model, shape))
    return serialised(model)


def _reads(value: onnx.ValueInfoProto, shape: tuple[int, int, int]) -> bool:
    import onnx

    tensor = value.type.tensor_type
    sides = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return (
        tensor.elem_type == onnx.TensorProto.FLOAT
        and len(sides) == 4
        and sides[0] is None
        and all(side in {None, wanted} for side, wanted in zip(sides[1:], shape, strict=True))
    )


def _embedding_output(graph: onnx.GraphProto, embedding: str | None) -> str:
    outputs: dict[str, int] = {
        value.name: len(value.type.tensor_type.shape.dim) for value in graph.output
    }
    flat = [name for name, rank in outputs.items() if rank == 2]
    if embedding is None:
        if EMBEDDING in outputs:
            return EMBEDDING
        if len(flat) == 1:
            return flat[0]
    elif embedding in outputs:
        return embedding
    raise BundleError(
        f"encoder.onnx: which of the outputs {list(outputs)} is the embedding? "
        "Name one that is [n, d]"
    )


def _dimension(model: onnx.ModelProto, shape: tuple[int, int, int]) -> int:
    """Return d, found by running the graph: many exports leave it open."""
    probe = type(model)()
    probe.CopyFrom(model)
    probe.graph.output.add(name=EMBEDDING)
    session = open_session(serialised(probe), threads=1)
    output = graph_outputs(session, np.zeros((1, *shape), dtype=np.float32))[EMBEDDING]
    if output.ndim != 2 or output.dtype != np.float32:
        raise BundleError(
            f"encoder.onnx returns {output.dtype} of shape {list(output.shape)} for one scan; "
            "an embedding is float32 [n, d]"
        )
    return int(output.shape[1])
