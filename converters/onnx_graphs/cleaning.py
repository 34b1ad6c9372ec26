"""Clear an exported graph: no zeros where ONNX assumes zeros, nothing unused, names that say what they name."""

from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import numpy_helper

# Operations that only move, repeat or shape the elements of their first input.
_REARRANGING = ("Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_INITIAL_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}  # places among the inputs


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an exported model without the exporter's traces; the graph computes the same.

    Initial states of recurrent layers that can only be zero are left out, which means zero; the operations that made
    them, and every other one that nothing uses, go with them. Trained tensors are called after the operation that
    reads them where the exporter only numbered them.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    found.producer_name, found.producer_version, found.doc_string = "", "", ""
    for node in found.graph.node:
        node.doc_string = ""
    _leave_out_zero_states(found.graph)
    _transpose_once(found.graph)
    drop_unused(found.graph)
    _name_weights(found.graph)
    return found


def _leave_out_zero_states(graph: onnx.GraphProto) -> None:
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for place in _INITIAL_STATES.get(node.op_type, ()):
            if place < len(node.input) and _is_zero(node.input[place], makers, constants):
                node.input[place] = ""
        while node.input and not node.input[-1]:
            node.input.pop()


def _is_zero(name: str, makers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> bool:
    """Return whether every element is zero, whatever the inputs of the graph are."""
    if name in constants:
        return not numpy_helper.to_array(constants[name]).any()
    node = makers.get(name)
    if node is None:  # an input of the graph
        return False
    if node.op_type in _REARRANGING:
        return _is_zero(node.input[0], makers, constants)
    if node.op_type in ("Constant", "ConstantOfShape"):
        values = _values(node)
        return not any(value.any() for value in values) and (bool(values) or node.op_type == "ConstantOfShape")
    return False


def _transpose_once(graph: onnx.GraphProto) -> None:
    """Transpose once where the exporter does it twice, after a batch-first LSTM.

    Given    Transpose (0, 2, 1, 3), Reshape to [0, 0, -1], Transpose (1, 0, 2), each read by the next alone
    Result   Transpose (2, 0, 1, 3), Reshape to [0, 0, -1]

    Joining the last two axes and swapping the first two do not touch each other. In half precision and with a batch of
    any size, the second transposition makes onnxruntime 1.31 crash when it loads the file.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(
        [*(name for node in graph.node for name in _reads(node)), *(value.name for value in graph.output)]
    )
    for swap in [node for node in graph.node if _permutation(node) == [1, 0, 2]]:
        join = makers.get(swap.input[0])
        first = makers.get(join.input[0]) if join and _joins_last(join, makers) else None
        if (
            join
            and first
            and _permutation(first) == [0, 2, 1, 3]
            and readers[join.output[0]] == readers[first.output[0]] == 1
        ):
            first.attribute[0].ints[:] = [2, 0, 1, 3]
            join.output[0] = swap.output[0]
            graph.node.remove(swap)


def _permutation(node: onnx.NodeProto) -> list[int]:
    return list(node.attribute[0].ints) if node.op_type == "Transpose" else []


def _joins_last(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    shape = makers.get(node.input[1]) if node.op_type == "Reshape" else None
    return shape is not None and shape.op_type == "Constant" and _values(shape)[0].tolist() == [0, 0, -1]


def _values(constant: onnx.NodeProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(a.t) for a in constant.attribute if a.type == onnx.AttributeProto.TENSOR]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the operations and trained tensors that no output of the graph follows from."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(_reads(node))
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every operation after those whose results it reads."""
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = {place: [makers[name] for name in _reads(node) if name in makers] for place, node in enumerate(nodes)}
    del graph.node[:]
    graph.node.extend(nodes[place] for place in TopologicalSorter(needs).static_order())


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, and what the graphs inside it read."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g, *attribute.graphs]:
            for each in inner.node:
                yield from _reads(each)


def _name_weights(graph: onnx.GraphProto) -> None:
    """Call trained tensors that are only numbered, as `onnx::LSTM_755`, after the operation that reads them first."""
    numbered = {tensor.name: "" for tensor in graph.initializer if tensor.name.startswith("onnx::")}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if numbered.get(name) == "":
                numbered[name] = f"{node.name.strip('/').replace('/', '.')}.{_role(node, place)}"
    for tensor in graph.initializer:
        tensor.name = numbered.get(tensor.name, tensor.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = numbered.get(name, name)


def _role(node: onnx.NodeProto, place: int) -> str:
    parameters = onnx.defs.get_schema(node.op_type).inputs
    return parameters[min(place, len(parameters) - 1)].name
