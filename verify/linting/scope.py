"""A function of a program as rules look at it: operations with their arguments, constants and types resolved."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mil.errors import MilError
from mil.grammar import Opset, opset_of_proto
from mil.interface import Feature
from mil.package import Package
from mil.program import Program, Stage
from mil.schema import MIL_pb2
from mil.traverse import blobs
from mil.values import TensorType, decode, layer_of, specialization, tensor_type

_DECODING = "constexpr_"
SMALL = 65536  # constants of more elements are summed up, but not handed out as arrays


@dataclass(frozen=True)
class Operand:
    """What an operation reads or makes.

    name      empty for a constant that is written in place
    value     of a constant, else None
    decoded   whether it is a weight that another operation decodes
    """

    name: str
    type: TensorType | None
    value: MIL_pb2.Value | None = None
    decoded: bool = False

    @property
    def element(self) -> str:
        return self.type.element.name if self.type else ""

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (self.type.shape or ()) if self.type else ()

    @property
    def is_float(self) -> bool:
        return self.type is not None and self.type.element.kind == "float"


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    block     where it stands: empty in the function's own block, else the operations that hold it
    weights   whether it only decodes weights, which costs nothing when the program runs
    """

    type: str
    name: str
    block: str
    arguments: Mapping[str, tuple[Operand, ...]]
    attributes: Mapping[str, MIL_pb2.Value]
    results: tuple[Operand, ...]

    @property
    def weights(self) -> bool:
        return self.type.startswith(_DECODING)

    @property
    def operands(self) -> Iterator[Operand]:
        return (operand for operands in self.arguments.values() for operand in operands)

    @property
    def variables(self) -> Iterator[Operand]:
        """What it reads that is neither a constant nor a weight."""
        return (operand for operand in self.operands if operand.value is None and not operand.decoded)

    def argument(self, *names: str) -> Operand | None:
        """Return the first argument that has one of these names and is there."""
        return next((self.arguments[name][0] for name in names if self.arguments.get(name)), None)

    @property
    def result(self) -> Operand:
        return self.results[0] if self.results else Operand("", None)

    @property
    def holds_blocks(self) -> bool:
        """Whether it only says when other operations run: a branch or a loop."""
        return self.type in ("cond", "while_loop")

    @property
    def halves(self) -> bool:
        """Whether it computes in half precision."""
        return any(result.element == "fp16" for result in self.results)


@dataclass(frozen=True)
class Extent:
    """The smallest and largest value of a constant; `nan` where any is no number."""

    low: float
    high: float
    nan: bool


@dataclass(frozen=True, eq=False)
class Scope:
    """One function of one model.

    where       "main", or "model1.main" in a pipeline
    constants   what `const` operations hold, by name
    """

    where: str
    package: Package
    opset: Opset
    inputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    outputs: tuple[Operand, ...]
    every: tuple[Operation, ...]
    constants: Mapping[str, Operand]
    _extents: dict[object, Extent | None] = field(default_factory=dict, repr=False)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """What runs when the program does: neither constants nor what decodes them."""
        return tuple(operation for operation in self.every if not operation.weights)

    @cached_property
    def makers(self) -> Mapping[str, Operation]:
        """The operation that makes each value."""
        return {result.name: operation for operation in self.every for result in operation.results}

    def maker(self, operand: Operand | None) -> Operation | None:
        return self.makers.get(operand.name) if operand else None

    def array(self, operand: Operand | None) -> np.ndarray | None:
        """Return a small constant, None for what is none, is large, or cannot be read here."""
        value = operand.value if operand else None
        if value is None or operand is None or operand.type is None or (operand.type.count or 0) > SMALL:
            return None
        try:
            found = decode(value, self.package)
        except MilError:  # the weight file is not there, or damaged: another check's business
            return None
        return found if isinstance(found, np.ndarray) else None

    def number(self, operand: Operand | None) -> float | None:
        """Return a constant of one element."""
        found = self.array(operand)
        return float(found.item()) if found is not None and found.size == 1 and found.dtype.kind in "fiub" else None

    def extent(self, operand: Operand) -> Extent | None:
        """Return between what values a floating-point constant lies, None where it cannot be read here."""
        if operand.value is None or not operand.is_float:
            return None
        blob = operand.value.blobFileValue
        key = (blob.fileName, blob.offset) if operand.value.WhichOneof("value") == "blobFileValue" else operand.name
        if not key:
            return self._measured(operand)
        if key not in self._extents:
            self._extents[key] = self._measured(operand)
        return self._extents[key]

    def _measured(self, operand: Operand) -> Extent | None:
        assert operand.value is not None
        try:
            found = decode(operand.value, self.package)
        except MilError:
            return None
        if not isinstance(found, np.ndarray) or not found.size or found.dtype.kind != "f":
            return None
        low, high = float(found.min()), float(found.max())
        if not np.isnan(low):
            return Extent(low, high, False)
        numbers = found[~np.isnan(found)]
        return Extent(float(numbers.min(initial=0)), float(numbers.max(initial=0)), True)


def scopes(program: Program) -> Iterator[Scope]:
    """Yield every function of every model of a program."""
    for stage in program.stages:
        for name in sorted(stage.program.functions):
            yield _scope(stage, name, name if len(program.stages) == 1 else f"{stage.name}.{name}")


def _scope(stage: Stage, name: str, where: str) -> Scope:
    function = stage.function(name)
    block = specialization(function)
    known = {value.name: Operand(value.name, tensor_type(value.type)) for value in function.inputs}
    constants: dict[str, Operand] = {}
    return Scope(
        where=where,
        package=stage.package,
        opset=opset_of_proto(function.opset),
        inputs=stage.inputs(name),
        states=stage.states(name),
        every=tuple(_operations(block, "", known, constants)),
        constants=constants,
        outputs=tuple(known.get(output, Operand(output, None)) for output in block.outputs),
    )


def _operations(
    block: MIL_pb2.Block, where: str, known: dict[str, Operand], constants: dict[str, Operand]
) -> Iterator[Operation]:
    """Yield the operations of a block and of those nested in it; add to `known` every value, and every constant."""
    known |= {value.name: Operand(value.name, tensor_type(value.type)) for value in block.inputs}
    for operation in block.operations:
        if operation.type == "const":
            for output in operation.outputs:
                value = operation.attributes.get("val")
                known[output.name] = constants[output.name] = Operand(output.name, tensor_type(output.type), value)
            continue
        found = Operation(
            type=operation.type,
            name=layer_of(operation),
            block=where,
            arguments={name: _operands(argument, known) for name, argument in operation.inputs.items()},
            attributes=dict(operation.attributes),
            results=tuple(
                Operand(output.name, tensor_type(output.type), decoded=operation.type.startswith(_DECODING))
                for output in operation.outputs
            ),
        )
        known |= {result.name: result for result in found.results}
        yield found
        for index, nested in enumerate(operation.blocks):
            yield from _operations(nested, f"{where}{found.name}[{index}]/", known, constants)


def _operands(argument: MIL_pb2.Argument, known: Mapping[str, Operand]) -> tuple[Operand, ...]:
    return tuple(
        known.get(binding.name, Operand(binding.name, None))
        if binding.WhichOneof("binding") == "name"
        else Operand("", tensor_type(binding.value.type), binding.value)
        for binding in argument.arguments
    )


def absent_weights(program: Program) -> tuple[str, ...]:
    """Return the weight files that a program names and that are not there, so that their values are not looked at."""
    names = {
        (value.blobFileValue.fileName, index)
        for index, stage in enumerate(program.stages)
        for value in blobs(stage.program)
    }
    return tuple(sorted({name for name, index in names if not _is_there(program.stages[index].package, name)}))


def _is_there(package: Package, name: str) -> bool:
    try:
        return package.blob_path(name).is_file()
    except MilError:
        return False
