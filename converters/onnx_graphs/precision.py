"""Graphs in half precision and with eight-bit weights."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from converters.onnx_graphs.cleaning import drop_unused, sort_nodes

# Kept in single precision: half precision has no number for the variance of a quiet recording's samples, near 1e-8.
_SINGLE = ("InstanceNormalization",)

# Not the convolutions. Their inputs would be quantized with one scale for a whole window, and the first of them reads
# samples: with it, whole windows of trained segmentation-3.0 lose their speakers (3 % of the frames agree).
_EIGHT_BITS = ("LSTM", "MatMul")

_LSTM_BYTES = (1, 2, 9, 11)  # places of weights and of their zero points among the inputs of a DynamicQuantizeLSTM


def half(model: onnx.ModelProto, parts: Sequence[str] = ("",)) -> onnx.ModelProto:
    """Return the model with weights and arithmetic in half precision; its inputs and outputs stay as they are.

    parts   the paths of the torch modules that bear it; what was traced outside of them stays in single precision
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    found = convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SINGLE],
        node_block_list=[node.name for node in copy.graph.node if not _inside(node, parts)],
    )
    _drop_repeated_casts(found.graph)
    sort_nodes(found.graph)
    _skip_round_trips(found.graph)
    drop_unused(found.graph)
    return found


def _inside(node: onnx.NodeProto, parts: Sequence[str]) -> bool:
    """Return whether an operation was traced in one of the modules; its name is the path of its module and its own."""
    path = node.name.strip("/").replace("/", ".")
    return any(not part or path.startswith(f"{part}.") for part in parts)


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """Keep the first of casts that are the same to the name: the library adds one for each operation that reads it."""
    first = {node.output[0]: node for node in reversed(graph.node) if node.op_type == "Cast"}
    kept = [node for node in graph.node if node.op_type != "Cast" or first[node.output[0]] is node]
    del graph.node[:]
    graph.node.extend(kept)


def _skip_round_trips(graph: onnx.GraphProto) -> None:
    """Let what is cast to half precision and straight back be read as it was: there, precision is only lost."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    for node in casts.values():
        before = casts.get(node.input[0])
        if before and _target(before) == onnx.TensorProto.FLOAT16 and _target(node) == onnx.TensorProto.FLOAT:
            _replace(graph, node.output[0], before.input[0])


def _target(cast: onnx.NodeProto) -> int:
    return next(attribute.i for attribute in cast.attribute if attribute.name == "to")


def _replace(graph: onnx.GraphProto, name: str, other: str) -> None:
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = other


def int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with eight-bit weights in its linear and recurrent layers, one scale for each output channel.

    What these layers read is quantized while the model runs. Weights are unsigned: on x86 processors without VNNI sums
    of products with signed ones overflow. LSTMs become onnxruntime's own operation, which no other runtime has.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="quern-") as scratch:
        source, found = Path(scratch) / "source.onnx", Path(scratch) / "int8.onnx"
        prepared = onnx.ModelProto()
        prepared.CopyFrom(model)
        # It asks for constants to be folded and shapes inferred before, as the exporter has done.
        prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        onnx.save(prepared, source)
        quantize_dynamic(
            source,
            found,
            op_types_to_quantize=list(_EIGHT_BITS),
            per_channel=True,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=_stacked_products(model.graph),
        )
        quantized = onnx.load(found)
    _make_unsigned(quantized.graph)
    return quantized


def _stacked_products(graph: onnx.GraphProto) -> list[str]:
    """Return the products with constants of more than two axes, such as positions: none run in eight bits."""
    axes = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and axes.get(node.input[1], 0) > 2]


def _make_unsigned(graph: onnx.GraphProto) -> None:
    """Add 128 to the weights of LSTMs and to their zero points, which changes no product: the library signs them."""
    lstms = [node for node in graph.node if node.op_type == "DynamicQuantizeLSTM"]
    names = {node.input[place] for node in lstms for place in _LSTM_BYTES}
    for tensor in graph.initializer:
        if tensor.name in names:
            shifted = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), tensor.name))
