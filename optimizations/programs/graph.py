"""One block of a program as a graph: who makes each value, how often it is read, its type, and what is constant."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mil.liveness import names_read
from mil.package import Package
from mil.schema import MIL_pb2
from mil.types import ElementType
from mil.values import TensorType, decode, tensor_type


class DeclinedError(Exception):
    """Why something is left as it is, in a few words."""


@dataclass(frozen=True)
class Graph:
    """A block, and what its operations may name.

    producers   name → the operation that makes it, in this block or in one around it
    own         the names that are made in this block itself
    types       name → type, of inputs too; None for what is no tensor
    reads       how often a name is read in this block, its nested blocks and its outputs
    """

    block: MIL_pb2.Block
    package: Package
    producers: Mapping[str, MIL_pb2.Operation]
    own: frozenset[str]
    types: Mapping[str, TensorType | None]
    reads: Mapping[str, int]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; declines what has none before the program runs."""
        found = self.types.get(name)
        if found is None or found.count is None:
            raise DeclinedError(f"`{name}` has no fixed shape")
        return found.known_shape()

    def element(self, name: str) -> ElementType:
        found = self.types[name]
        assert found is not None
        return found.element

    def names(self, operation: MIL_pb2.Operation, parameter: str) -> list[str]:
        """Return the names given to a parameter; a constant that is written in place is an empty name."""
        return [binding.name for binding in operation.inputs[parameter].arguments]

    def constant(self, operation: MIL_pb2.Operation, parameter: str, default: Any = None) -> Any:
        """Return a constant parameter as an array, the default where it is not given; declines a computed one."""
        if parameter not in operation.inputs:
            return default
        binding = operation.inputs[parameter].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return decode(binding.value, self.package)
        producer = self.producers.get(binding.name)
        if producer is None or producer.type != "const":
            raise DeclinedError(f"its `{parameter}` is computed")
        return decode(producer.attributes["val"], self.package)


def graphs(function: MIL_pb2.Function, block: MIL_pb2.Block, package: Package) -> Iterator[Graph]:
    """Yield the graph of a function's block and of every block nested in it, the outer ones first."""
    types = {value.name: tensor_type(value.type) for value in function.inputs}
    yield from _graphs(block, package, {}, types)


def _graphs(
    block: MIL_pb2.Block,
    package: Package,
    producers: Mapping[str, MIL_pb2.Operation],
    types: Mapping[str, TensorType | None],
) -> Iterator[Graph]:
    made = {output.name: operation for operation in block.operations for output in operation.outputs}
    entered = {value.name: tensor_type(value.type) for value in block.inputs}
    known = dict(types) | entered
    known |= {output.name: tensor_type(output.type) for each in block.operations for output in each.outputs}
    visible = {name: operation for name, operation in producers.items() if name not in entered} | made
    reads = Counter(name for operation in block.operations for name in names_read(operation))
    reads.update(block.outputs)
    yield Graph(block, package, visible, frozenset(made), known, reads)
    for operation in list(block.operations):
        for nested in operation.blocks:
            yield from _graphs(nested, package, visible, known)
