"""What a program is made of and what it would cost, read from its declared types."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mil.errors import MilError
from mil.interface import Feature, drawn
from mil.liveness import last_uses
from mil.package import Package
from mil.program import Program, Stage
from mil.schema import MIL_pb2
from mil.trace import trace
from mil.types import BY_NAME
from mil.values import TensorType, decode, layer_of, specialization, tensor_type


@dataclass(frozen=True)
class Layer:
    """One operation that has weights or multiplies.

    stored_bytes    its weights as they lie in the package; weights that layers share count for the first
    decoded_bytes   the same weights decompressed, in the type that the operation reads
    macs            multiply-accumulates; None where a dimension is known only at run time
    """

    name: str
    operation: str
    stored_bytes: int
    decoded_bytes: int
    macs: int | None


@dataclass(frozen=True)
class Weights:
    """All weights of one storage form, such as `fp16` or `palette of 6 bits`."""

    count: int
    stored_bytes: int
    decoded_bytes: int


@dataclass(frozen=True)
class FunctionInfo:
    """One function of a program, or of a stage of a pipeline.

    macs              of all operations whose shapes are known; loop bodies count once
    unknown_macs      how many operations multiply by a dimension that is known only at run time
    peak_live_bytes   the most that inputs and intermediate results take at once, in their declared types, if each
                      is kept from when it is made until its last use and no two share memory
    peak_layer        where that is
    unknown_values    how many values have a dimension that is known only at run time, and are not in the peak
    """

    stage: str
    name: str
    opset: str
    inputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    outputs: tuple[tuple[str, str], ...]
    operations: Mapping[str, int]
    weights: Mapping[str, Weights]
    layers: tuple[Layer, ...]
    macs: int
    unknown_macs: int
    peak_live_bytes: int
    peak_layer: str
    unknown_values: int

    @property
    def stored_bytes(self) -> int:
        """All weights, as they lie in the package."""
        return sum(weights.stored_bytes for weights in self.weights.values())

    @property
    def decoded_bytes(self) -> int:
        """All weights, decompressed."""
        return sum(weights.decoded_bytes for weights in self.weights.values())


def describe(program: Program, measured: bool = False) -> tuple[FunctionInfo, ...]:
    """Return what there is to know about every function of every stage.

    measured   whether to run each function once, on drawn inputs of the default shapes, for the sizes that are known
               only at run time; raises MilError for a pipeline
    """
    if measured and len(program.stages) > 1:
        raise MilError("a pipeline cannot be measured; measure its stages as models of their own")
    return tuple(
        _describe_function(stage, name, _measured_shapes(program, name) if measured else {})
        for stage in program.stages
        for name in sorted(stage.program.functions)
    )


def _measured_shapes(program: Program, function: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input and result of a run, by name; in a loop, of the last time round."""
    generator = np.random.default_rng(0)
    inputs = {feature.name: drawn(feature, generator) for feature in program.inputs(function)}
    shapes = {name: array.shape for name, array in inputs.items()}
    return shapes | {traced.name: traced.shape for traced, _ in trace(program, inputs, function=function)}


@dataclass
class _Weight:
    form: str
    stored_bytes: int
    type: TensorType
    key: object


@dataclass
class _Tally:
    """What is known so far of a function, while its blocks are walked."""

    package: Package
    measured: Mapping[str, tuple[int, ...]]
    types: dict[str, TensorType | None] = field(default_factory=dict)
    constants: dict[str, MIL_pb2.Value] = field(default_factory=dict)
    weights: dict[str, _Weight] = field(default_factory=dict)
    counted: set[object] = field(default_factory=set)
    operations: Counter[str] = field(default_factory=Counter)
    by_form: dict[str, Weights] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    unknown_values: int = 0

    def declare(self, values: Iterable[MIL_pb2.NamedValueType]) -> None:
        """Take the types of values: as declared, with the measured sizes where there are any."""
        for value in values:
            kind = tensor_type(value.type)
            if kind is not None and value.name in self.measured and kind.admits(self.measured[value.name]):
                kind = TensorType(kind.element, self.measured[value.name])
            self.types[value.name] = kind


def _describe_function(stage: Stage, name: str, measured: Mapping[str, tuple[int, ...]]) -> FunctionInfo:
    function = stage.function(name)
    block = specialization(function)
    tally = _Tally(stage.package, measured)
    tally.declare(function.inputs)
    _tally_block(tally, block)
    states = {feature.name for feature in stage.states(name)}
    entered = [value.name for value in function.inputs if value.name not in states]
    peak_bytes, peak_layer = _peak(tally, block, entered)
    macs = [layer.macs for layer in tally.layers]
    return FunctionInfo(
        stage=stage.name,
        name=name,
        opset=function.opset,
        inputs=stage.inputs(name),
        states=stage.states(name),
        outputs=tuple((output, str(tally.types.get(output) or "no tensor")) for output in block.outputs),
        operations=dict(tally.operations.most_common()),
        weights=dict(sorted(tally.by_form.items())),
        layers=tuple(tally.layers),
        macs=sum(count for count in macs if count is not None),
        unknown_macs=sum(count is None for count in macs),
        peak_live_bytes=peak_bytes,
        peak_layer=peak_layer,
        unknown_values=tally.unknown_values,
    )


def _tally_block(tally: _Tally, block: MIL_pb2.Block) -> None:
    tally.declare(block.inputs)
    for operation in block.operations:
        tally.declare(operation.outputs)
        if operation.type == "const":
            _tally_const(tally, operation)
            continue
        tally.operations[operation.type] += 1
        if operation.type.startswith("constexpr_"):
            _tally_constexpr(tally, operation)
        else:
            _tally_layer(tally, operation)
        for nested in operation.blocks:
            _tally_block(tally, nested)


def _tally_const(tally: _Tally, operation: MIL_pb2.Operation) -> None:
    declared = tensor_type(operation.outputs[0].type) if operation.outputs else None
    if declared is None or "val" not in operation.attributes:
        return
    value = operation.attributes["val"]
    name = operation.outputs[0].name
    tally.constants[name] = value
    if value.WhichOneof("value") != "blobFileValue" and declared.element.kind != "float":
        return  # strides, axes and the like are no weights
    tally.weights[name] = _Weight(declared.element.name, declared.size_bytes or 0, declared, _place(value, name))


def _tally_constexpr(tally: _Tally, operation: MIL_pb2.Operation) -> None:
    values = [value for name, value in operation.attributes.items() if name != "name"]
    values += [binding.value for binding in _bindings(operation) if binding.WhichOneof("binding") == "value"]
    types = [kind for kind in (tensor_type(value.type) for value in values) if kind is not None]
    stored = sum(kind.size_bytes or 0 for kind in types)
    stored += sum(weight.stored_bytes for weight in _weights_read(tally, operation))
    places = tuple(_place(value, operation.outputs[0].name) for value in values)
    for output in operation.outputs:
        declared = tensor_type(output.type)
        if declared is not None:
            form = _form(tally, operation)
            tally.weights[output.name] = _Weight(form, stored, declared, (operation.type, places))


def _form(tally: _Tally, operation: MIL_pb2.Operation) -> str:
    """Return how a weight is stored, in words: what the operation undoes, and what lies below it."""
    below = [weight.form for weight in _weights_read(tally, operation) if weight.form not in BY_NAME]
    match operation.type:
        case "constexpr_lut_to_dense" | "constexpr_lut_to_sparse":
            own = f"palette of {_palette_bits(tally, operation)} bits"
        case _ if operation.type.endswith(("dequantize", "shift_scale")):
            own = f"linear {_argument_type(operation, 'quantized_data', 'data', 'nonzero_data')}"
        case "constexpr_sparse_to_dense":
            own = "sparse"
        case _:
            own = "cast"
    return ", ".join(dict.fromkeys([own, *below]))


def _palette_bits(tally: _Tally, operation: MIL_pb2.Operation) -> int:
    lut = _argument_value(operation, "lut")
    declared = tally.types.get(_argument_name(operation, "lut")) if lut is None else tensor_type(lut.type)
    if declared is None or declared.count is None:
        raise MilError(f"op `{operation.type}` ({layer_of(operation)}): expected a palette of known size")
    entries = declared.known_shape()[-2] if len(declared.known_shape()) > 1 else declared.count
    return max(entries - 1, 1).bit_length()


def _argument_type(operation: MIL_pb2.Operation, *names: str) -> str:
    for name in names:
        value = _argument_value(operation, name)
        declared = None if value is None else tensor_type(value.type)
        if declared is not None:
            return declared.element.name
    return "nested"


def _argument_value(operation: MIL_pb2.Operation, name: str) -> MIL_pb2.Value | None:
    if name in operation.attributes:
        return operation.attributes[name]
    if name in operation.inputs and operation.inputs[name].arguments[0].WhichOneof("binding") == "value":
        return operation.inputs[name].arguments[0].value
    return None


def _argument_name(operation: MIL_pb2.Operation, name: str) -> str:
    return operation.inputs[name].arguments[0].name if name in operation.inputs else ""


def _place(value: MIL_pb2.Value, name: str) -> object:
    """Return what tells a weight from others: where it lies, or its name where it is given in place."""
    if value.WhichOneof("value") == "blobFileValue":
        return (value.blobFileValue.fileName, value.blobFileValue.offset)
    return name


def _bindings(operation: MIL_pb2.Operation) -> Iterator[MIL_pb2.Argument.Binding]:
    for argument in operation.inputs.values():
        yield from argument.arguments


def _weights_read(tally: _Tally, operation: MIL_pb2.Operation) -> list[_Weight]:
    names = dict.fromkeys(binding.name for binding in _bindings(operation) if binding.WhichOneof("binding") == "name")
    found = [tally.weights[name] for name in names if name in tally.weights]
    return list({id(weight): weight for weight in found}.values())


def _tally_layer(tally: _Tally, operation: MIL_pb2.Operation) -> None:
    stored = decoded = 0
    for weight in _weights_read(tally, operation):
        if weight.key in tally.counted:
            continue
        tally.counted.add(weight.key)
        size = weight.type.size_bytes or 0
        before = tally.by_form.get(weight.form, Weights(0, 0, 0))
        tally.by_form[weight.form] = Weights(
            before.count + 1, before.stored_bytes + weight.stored_bytes, before.decoded_bytes + size
        )
        stored, decoded = stored + weight.stored_bytes, decoded + size
    counts = operation.type in MULTIPLYING
    if counts or decoded:
        macs = _macs(tally, operation) if counts else 0
        tally.layers.append(Layer(layer_of(operation), operation.type, stored, decoded, macs))


MULTIPLYING = frozenset(
    {"conv", "conv_transpose", "einsum", "gru", "linear", "lstm", "matmul", "rnn", "scaled_dot_product_attention"}
)


def _macs(tally: _Tally, operation: MIL_pb2.Operation) -> int | None:
    """Return the multiply-accumulates of an operation, None where a dimension is not known."""
    shapes = {name: _shape(tally, argument) for name, argument in operation.inputs.items()}
    out = tally.types.get(operation.outputs[0].name) if operation.outputs else None
    try:
        return _multiplications(operation, shapes, None if out is None else out.count, tally)
    except (TypeError, KeyError, IndexError, ValueError):  # a dimension or an input that is not there
        return None


def _shape(tally: _Tally, argument: MIL_pb2.Argument) -> tuple[int | None, ...]:
    for binding in argument.arguments:
        named = binding.WhichOneof("binding") == "name"
        kind = tally.types.get(binding.name) if named else tensor_type(binding.value.type)
        if kind is not None and kind.shape is not None:
            return kind.shape
    return ()


def _multiplications(
    operation: MIL_pb2.Operation, shapes: Mapping[str, tuple[int | None, ...]], out: int | None, tally: _Tally
) -> int | None:
    match operation.type:
        case "conv":
            return _product(out, *shapes["weight"][1:])
        case "conv_transpose":
            return _product(*shapes["x"], *shapes["weight"][1:])
        case "linear":
            return _product(out, shapes["weight"][-1])
        case "matmul":
            transposed = _constant(tally, operation, "transpose_x")
            return _product(out, shapes["x"][-2 if transposed else -1])
        case "einsum":
            return _einsum(tally, operation)
        case "scaled_dot_product_attention":  # for each pair of query and key, a score and a weighted value
            pairs = (*shapes["query"][:-1], shapes["key"][-2])
            return _product(*pairs, shapes["query"][-1]) + _product(*pairs, shapes["value"][-1])
        case _:  # the recurrent layers: gates · hidden is the height of both matrices
            rows, hidden = shapes["weight_hh"]
            each = (*shapes["x"][:2], rows, 2 if "weight_ih_back" in operation.inputs else 1)
            return _product(*each, shapes["x"][2]) + _product(*each, hidden)


def _product(*sizes: int | None) -> int:
    if None in sizes:
        raise ValueError("a dimension is not known")
    return math.prod(size for size in sizes if size is not None)


def _constant(tally: _Tally, operation: MIL_pb2.Operation, name: str) -> object:
    if name not in operation.inputs:
        return None
    binding = operation.inputs[name].arguments[0]
    value = binding.value if binding.WhichOneof("binding") == "value" else tally.constants[binding.name]
    return decode(value, tally.package).item()


def _einsum(tally: _Tally, operation: MIL_pb2.Operation) -> int:
    left, _, _ = str(_constant(tally, operation, "equation")).partition("->")
    sizes: dict[str, int | None] = {}
    for labels, binding in zip(left.split(","), operation.inputs["values"].arguments, strict=True):
        kind = tally.types[binding.name]
        if kind is None or kind.shape is None:
            raise ValueError("a dimension is not known")
        sizes |= dict(zip(labels.strip(), kind.shape, strict=True))
    return _product(*sizes.values())


def _peak(tally: _Tally, block: MIL_pb2.Block, entered: list[str], outside: int = 0) -> tuple[int, str]:
    """Return the most bytes that are live at once in a block, and the layer where; constants are not counted."""
    live = {name: _live_bytes(tally, name) for name in entered}
    peak, where = outside + sum(live.values()), "the inputs"
    for operation, dead in zip(block.operations, last_uses(block, entered), strict=True):
        if operation.type != "const" and not operation.type.startswith("constexpr_"):
            around = outside + sum(live.values())
            for nested in operation.blocks:
                inside = _peak(tally, nested, [value.name for value in nested.inputs], around)
                peak, where = max((peak, where), inside, key=lambda found: found[0])
            live |= {value.name: _live_bytes(tally, value.name) for value in operation.outputs}
            if outside + sum(live.values()) > peak:
                peak, where = outside + sum(live.values()), layer_of(operation)
        for name in dead:
            live.pop(name, None)
    return peak, where


def _live_bytes(tally: _Tally, name: str) -> int:
    kind = tally.types.get(name)
    if kind is None or kind.size_bytes is None:
        tally.unknown_values += 1
        return 0
    return kind.size_bytes
