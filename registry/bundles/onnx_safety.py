"""What an ONNX graph must be before anything runs it.

A graph is a program from elsewhere. Refused are: data outside the file,
operators that are not ONNX's own, loops and random operators (an embedding
must be the same each time), and tensors too large for one scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from registry.bundles.onnx_session import EMBEDDING, PIXELS
from registry.errors import BundleError

if TYPE_CHECKING:
    import onnx

# Protocol buffers end at 2 GiB.
LARGEST_GRAPH_BYTES = (1 << 31) - 1

# Elements of one tensor for one scan: a GiB of float32. A ViT-L at 1024 pixels
# stays below 2^26; a few bytes of graph can ask for 2^40.
LARGEST_TENSOR_ELEMENTS = 1 << 28

# Elements of a constant whose values may decide a shape.
LARGEST_SHAPE_CONSTANT = 1024

# Operator sets older than 11 lack rules that shape inference relies on; newer
# ones than the runtime knows are the runtime's to refuse.
OLDEST_OPSET = 11

_REFUSED_OPERATORS = {
    **dict.fromkeys(("Loop", "Scan"), "may run without end"),
    **dict.fromkeys(
        (
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ),
        "is random, and an embedding must be the same each time",
    ),
}


def check_graph(data: bytes, *, name: str) -> onnx.ModelProto:
    """Return the graph in `data` once it is known to be harmless.

    Parameters
    ----------
    data : a serialised ONNX model
    name : of the file, for messages

    Raises
    ------
    BundleError
        If the graph is malformed, or asks for anything that is refused; the
        message names it.
    """
    import onnx

    if len(data) > LARGEST_GRAPH_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes, above {LARGEST_GRAPH_BYTES}")
    if not data:
        raise BundleError(f"{name} is empty: export or copy it again")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's decoder, which onnx does not wrap
        raise BundleError(f"{name} is not an ONNX graph: {error}") from error
    # First of all: the checks below would read what external data points to.
    _refuse_external_data(model, name=name)
    _refuse_foreign_operators(model, name=name)
    _refuse_absurd_shapes(model, name=name)
    return model


def check_signature(
    model: onnx.ModelProto,
    *,
    size: tuple[int, int],
    outputs: Mapping[str, int],
    name: str,
) -> int:
    """Return the embedding's dimension once inputs and outputs are known to be the bundle's.

    Parameters
    ----------
    model : from `check_graph`
    size : (h, w) that preprocessing produces
    outputs : every output besides the embedding -> its columns
    name : of the file, for messages

    Raises
    ------
    BundleError
        Unless the graph turns float32 `pixels` [n, 3, h, w] into float32
        `embedding` [n, d] and exactly `outputs`.
    """
    inputs = _signature(model, model.graph.input)
    wanted = ("FLOAT", (None, 3, *size))
    if inputs != {PIXELS: wanted}:
        raise BundleError(
            f"{name}: input must be {_described({PIXELS: wanted})}, got {_described(inputs)}"
        )
    found = _signature(model, model.graph.output)
    columns = found.get(EMBEDDING, ("", ()))[1][1:]
    dimension = columns[0] if len(columns) == 1 else None
    if dimension is None:
        raise BundleError(
            f"{name}: output {EMBEDDING!r} must be [n, d] with d fixed, got {_described(found)}"
        )
    expected = {
        EMBEDDING: ("FLOAT", (None, dimension)),
        **{output: ("FLOAT", (None, width)) for output, width in outputs.items()},
    }
    if found != expected:
        raise BundleError(
            f"{name}: outputs must be {_described(expected)}, got {_described(found)}"
        )
    return dimension


def _signature(
    model: onnx.ModelProto, values: object
) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Return name -> (element type, shape); None stands for a dimension that is not fixed."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    signature: dict[str, tuple[str, tuple[int | None, ...]]] = {}
    for value in values:  # type: ignore[attr-defined]
        # Before IR version 4 a weight stood among the inputs, too.
        if value.name not in weights:
            tensor = value.type.tensor_type
            shape = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
            )
            signature[value.name] = (onnx.TensorProto.DataType.Name(tensor.elem_type), shape)
    return signature


def _described(signature: Mapping[str, tuple[str, tuple[int | None, ...]]]) -> str:
    return "; ".join(
        f"{name} {kind.lower()}[{', '.join('n' if d is None else str(d) for d in shape)}]"
        for name, (kind, shape) in signature.items()
    )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (
                *((attribute.g,) if attribute.HasField("g") else ()),
                *attribute.graphs,
            ):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for inner in _graphs(graph):
        yield from inner.initializer
        sparse = list(inner.sparse_initializer)
        for node in inner.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def _refuse_external_data(model: onnx.ModelProto, *, name: str) -> None:
    import onnx

    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BundleError(
                f"{name} keeps data outside the file ({tensor.name or 'a constant'}): "
                "save it as one file"
            )
    if model.functions or model.training_info:
        raise BundleError(f"{name} holds functions or training information: export it inlined")


def _refuse_foreign_operators(model: onnx.ModelProto, *, name: str) -> None:
    import onnx

    versions = {opset.domain: opset.version for opset in model.opset_import}
    # "" and "ai.onnx" are one domain.
    version = versions.get("", versions.get("ai.onnx", 0))
    if not version:
        raise BundleError(
            f"{name} names no operator set of ONNX: it is no ONNX model, or none that was "
            "exported whole; export it again"
        )
    if not OLDEST_OPSET <= version <= onnx.defs.onnx_opset_version():
        raise BundleError(
            f"{name} uses operator set {version}; supported are {OLDEST_OPSET} to "
            f"{onnx.defs.onnx_opset_version()}: export it with one of these"
        )
    for graph in _graphs(model.graph):
        for node in graph.node:
            # A name that is not UTF-8 arrives as bytes, and is nobody's operator.
            own = node.domain in {"", "ai.onnx"} and isinstance(node.op_type, str)
            if not own or not onnx.defs.has(node.op_type, version):
                operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise BundleError(
                    f"{name} uses the operator {operator}, which is not one of ONNX"
                )
            if node.op_type in _REFUSED_OPERATORS:
                raise BundleError(
                    f"{name} uses {node.op_type}, which {_REFUSED_OPERATORS[node.op_type]}"
                )


def _refuse_absurd_shapes(model: onnx.ModelProto, *, name: str) -> None:
    import onnx

    for tensor in _tensors(model.graph):
        _check_size(tuple(tensor.dims), of=tensor.name or "a constant", name=name)
    try:
        single = _for_one_scan(model)
        onnx.checker.check_model(single)
        inferred = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True)
    except Exception as error:  # native code on a foreign graph
        first = str(error).strip().splitlines()[0] if str(error).strip() else "invalid"
        raise BundleError(f"{name} is not a valid ONNX graph: {first}") from error
    for graph in _graphs(inferred.graph):
        for value in (*graph.value_info, *graph.input, *graph.output):
            shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            _check_size(shape, of=value.name, name=name)


def _for_one_scan(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with every open dimension as one, and large weights as mere shapes.

    Shapes depend on small constants alone; without the weights, which may be
    hundreds of megabytes, nothing large is copied.
    """
    import onnx
    from onnx import helper

    single = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = single.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = 1
    declared = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= LARGEST_SHAPE_CONSTANT:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return single


def _check_size(shape: tuple[int, ...], *, of: str, name: str) -> None:
    if any(side < 0 for side in shape) or math.prod(shape) > LARGEST_TENSOR_ELEMENTS:
        raise BundleError(
            f"{name}: {of!r} would have the shape {list(shape)}, above "
            f"{LARGEST_TENSOR_ELEMENTS} elements for one scan"
        )
