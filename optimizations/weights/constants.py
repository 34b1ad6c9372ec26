"""Where the constants of a program are used: who consumes them, along which axis, and on which side of a logarithm."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mil.package import Package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import decode

# What may lie between a waveform and the logarithm of its spectrum: linear operations, magnitudes and layout.
_LINEAR = frozenset(["add", "sub", "mul", "real_div", "matmul", "linear", "conv", "reduce_sum", "reduce_mean"])
_MAGNITUDE = frozenset(["abs", "square", "pow", "sqrt", "maximum", "clip", "log"])
_SHAPE = frozenset(["squeeze", "expand_dims", "reshape", "transpose", "pad", "identity", "cast", "const"])
_PARTS = frozenset(["concat", "split", "stack", "tile", "slice_by_index", "slice_by_size", "sliding_windows"])
_FRONT_END = _LINEAR | _MAGNITUDE | _SHAPE | _PARTS


@dataclass(frozen=True)
class Use:
    """One input of one operation that a constant is given to."""

    operation: MIL_pb2.Operation
    parameter: str


@dataclass(frozen=True)
class Constant:
    """A `const` operation, the block it stands in, and all its uses, in nested blocks too.

    returned   whether a block hands it on as one of its outputs
    """

    block: MIL_pb2.Block
    operation: MIL_pb2.Operation
    uses: list[Use] = field(default_factory=list)
    returned: list[MIL_pb2.Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.operation.outputs[0].name


def programs(spec: Model_pb2.Model) -> list[MIL_pb2.Program]:
    """Return the ML programs of a model, those of a pipeline in its order; empty for other kinds of model."""
    models = spec.pipeline.models if spec.WhichOneof("Type") == "pipeline" else [spec]
    return [model.mlProgram for model in models if model.WhichOneof("Type") == "mlProgram"]


def top_blocks(spec: Model_pb2.Model) -> Iterator[tuple[str, str, MIL_pb2.Block]]:
    """Yield function, operation set and block of every function of every program, in an order that is the same always.

    Protobuf maps have none of their own, so they are taken by key.
    """
    for program in programs(spec):
        for name, function in sorted(program.functions.items()):
            for opset, block in sorted(function.block_specializations.items()):
                yield name, opset, block


def constants(block: MIL_pb2.Block) -> list[Constant]:
    """Return the constants of a block and of those nested in it, in program order."""
    found: list[Constant] = []
    _collect(block, {}, found)
    return found


def _collect(block: MIL_pb2.Block, outer: dict[str, Constant], found: list[Constant]) -> None:
    """Add the block's constants to `found`; `outer` holds those that can be named from here."""
    visible = dict(outer)
    for operation in block.operations:
        for parameter, name in named_inputs(operation):
            if name in visible:
                visible[name].uses.append(Use(operation, parameter))
        for nested in operation.blocks:
            _collect(nested, visible, found)
        for output in operation.outputs:
            visible.pop(output.name, None)
        if operation.type == "const" and operation.outputs:
            constant = Constant(block, operation)
            visible[constant.name] = constant
            found.append(constant)
    for name in block.outputs:
        if name in visible:
            visible[name].returned.append(block)


def named_inputs(operation: MIL_pb2.Operation) -> Iterator[tuple[str, str]]:
    """Yield parameter and name of each value that an operation takes by name."""
    for parameter, argument in sorted(operation.inputs.items()):
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                yield parameter, binding.name


def output_channel_axis(constant: Constant, all_constants: dict[str, Constant], package: Package) -> int | None:
    """Return the axis of a weight that counts the output channels of what uses it; None where its uses disagree.

    As coremltools takes it: axis 1 for conv_transpose; the last or the one before for matmul, by its transposition;
    axis 0 for all else.
    """
    rank = len(constant.operation.outputs[0].type.tensorType.dimensions)
    axes = {_output_channel_axis(use, all_constants, package) % rank for use in constant.uses}
    return axes.pop() if len(axes) == 1 else None


def _output_channel_axis(use: Use, all_constants: dict[str, Constant], package: Package) -> int:
    if use.operation.type == "conv_transpose":
        return 1
    if use.operation.type != "matmul":
        return 0
    transposed = argument(use.operation, f"transpose_{use.parameter}", all_constants, package)
    return -2 if bool(transposed) == (use.parameter == "y") else -1


def argument(
    operation: MIL_pb2.Operation, parameter: str, all_constants: Mapping[str, Constant], package: Package
) -> np.ndarray | None:
    """Return what a constant input of an operation holds, by name or by value; None where it is not given."""
    if parameter not in operation.inputs:
        return None
    binding = operation.inputs[parameter].arguments[0]
    if binding.WhichOneof("binding") == "value":
        return np.asarray(decode(binding.value, package))
    return np.asarray(decode(all_constants[binding.name].operation.attributes["val"], package))


def front_end_constants(block: MIL_pb2.Block) -> set[str]:
    """Return the names of the constants of a spectral front end: those that the logarithm of a filter bank is made of.

    A front end is known by its structure. It is all that an operation `log` depends on, provided that this is linear
    operations, magnitudes and changes of layout alone; the logarithm behind a softmax depends on a whole network.
    """
    producers = _producers(block)
    found: set[str] = set()
    for operation in block.operations:
        if operation.type == "log":
            reached = _upstream(operation, producers)
            if all(each.type in _FRONT_END for each in reached.values()):
                found |= {name for name, each in reached.items() if each.type == "const"}
    return found


def constants_behind(output: str, block: MIL_pb2.Block) -> set[str]:
    """Return the names of the constants that an output of a block is made of."""
    producers = _producers(block)
    reached = _upstream(producers[output], producers) if output in producers else {}
    return {name for name, each in reached.items() if each.type == "const"}


def _producers(block: MIL_pb2.Block) -> dict[str, MIL_pb2.Operation]:
    return {output.name: operation for operation in block.operations for output in operation.outputs}


def _upstream(operation: MIL_pb2.Operation, producers: dict[str, MIL_pb2.Operation]) -> dict[str, MIL_pb2.Operation]:
    """Return the operations that an operation depends on, by the name of the output that it depends on."""
    reached: dict[str, MIL_pb2.Operation] = {}
    waiting = [operation]
    while waiting:
        for _, name in named_inputs(waiting.pop()):
            if name in producers and name not in reached:
                reached[name] = producers[name]
                waiting.append(producers[name])
    return reached
