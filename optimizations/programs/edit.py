"""Operations made anew, put in place of others; and those removed that nothing needs any more."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mil.liveness import names_defined, names_read
from mil.schema import MIL_pb2
from mil.types import BY_NAME, ElementType
from mil.values import TensorType, tensor_type

# A value whose array is only written when the package is: its offset counts the arrays of an `Edits`.
PENDING: Final = "pending"
_EFFECTS = frozenset(["write_state", "coreml_update_state", "cond", "while_loop"])
_IMMEDIATE = {"int32": "ints", "bool": "bools"}


@dataclass
class Edits:
    """What a program in the making has that is new.

    taken    the names that new results must not have
    arrays   the values of new floating-point constants, for the weight files
    """

    taken: set[str]
    arrays: list[np.ndarray] = field(default_factory=list)

    def name(self, wished: str) -> str:
        """Return a name that nothing has, and keep it from being given again."""
        name, count = wished, 0
        while name in self.taken:
            count += 1
            name = f"{wished}_{count}"
        self.taken.add(name)
        return name


class Chain:
    """New operations, each of which works on the result of the one before."""

    def __init__(self, edits: Edits, source: str, kind: TensorType, hint: str) -> None:
        self._edits = edits
        self._hint = hint
        self.operations: list[MIL_pb2.Operation] = []
        self.result = source
        self.element = kind.element
        self.shape = kind.known_shape()

    def constant(self, hint: str, value: np.ndarray | str) -> str:
        """Add a constant and return its name: an array of the chain's floating-point type, int32 or bool, or text."""
        operation = _operation("const", self._edits.name(f"{self._hint}_{hint}"))
        self.operations.append(operation)
        held = operation.attributes["val"]
        if isinstance(value, str):
            declare(held.type, BY_NAME["string"], ())
            held.immediateValue.tensor.strings.values.append(value)
        elif value.dtype.kind == "f":
            declare(held.type, self.element, value.shape)
            held.blobFileValue.fileName = PENDING
            held.blobFileValue.offset = len(self._edits.arrays)
            assert self.element.numpy is not None
            self._edits.arrays.append(value.astype(self.element.numpy))
        else:
            element = BY_NAME[value.dtype.name]
            declare(held.type, element, value.shape)
            stored = getattr(held.immediateValue.tensor, _IMMEDIATE[element.name])
            stored.values.extend(value.reshape(-1).tolist())
        operation.outputs[0].type.CopyFrom(held.type)
        return operation.outputs[0].name

    def add(self, kind: str, shape: Sequence[int], /, **parameters: np.ndarray | str) -> None:
        """Add an operation that takes the last result as `x`, all else as constants, and makes a tensor of `shape`."""
        names = {key: self.constant(f"{kind}_{key}", value) for key, value in parameters.items()}
        operation = _operation(kind, self._edits.name(f"{self._hint}_{kind}"))
        for key, name in (names | {"x": self.result}).items():
            operation.inputs[key].arguments.add().name = name
        declare(operation.outputs[0].type, self.element, shape)
        self.operations.append(operation)
        self.result, self.shape = operation.outputs[0].name, tuple(shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Add a reshape, where one is needed."""
        if tuple(shape) != self.shape:
            self.add("reshape", shape, shape=np.array(shape, np.int32))

    def transpose(self, *perm: int) -> None:
        self.add("transpose", [self.shape[axis] for axis in perm], perm=np.array(perm, np.int32))

    def convolve(self, weight: np.ndarray, stride: int) -> None:
        """Add a convolution of (batch, 1, length …) along its first spatial axis, without padding."""
        batch, _, length, *rest = self.shape
        filters, _, taps = weight.shape
        axes = 1 + len(rest)
        self.add(
            "conv",
            [batch, filters, (length - taps) // stride + 1, *rest],
            weight=weight.reshape(filters, 1, taps, *[1] * len(rest)),
            strides=np.array([stride, *[1] * len(rest)], np.int32),
            pad_type="valid",
            pad=np.zeros(2 * axes, np.int32),
            dilations=np.ones(axes, np.int32),
            groups=np.array(1, np.int32),
        )

    def instead_of(self, replaced: MIL_pb2.Operation) -> list[MIL_pb2.Operation]:
        """Return the operations, the last under the name and layer of the one that they replace."""
        last = self.operations[-1]
        assert tensor_type(last.outputs[0].type) == tensor_type(replaced.outputs[0].type)
        last.outputs[0].CopyFrom(replaced.outputs[0])
        if "name" in replaced.attributes:
            last.attributes["name"].CopyFrom(replaced.attributes["name"])
        return self.operations


def _operation(kind: str, name: str) -> MIL_pb2.Operation:
    operation = MIL_pb2.Operation(type=kind)
    operation.outputs.add().name = name
    layer = operation.attributes["name"]
    declare(layer.type, BY_NAME["string"], ())
    layer.immediateValue.tensor.strings.values.append(name)
    return operation


def declare(kind: MIL_pb2.ValueType, element: ElementType, shape: Sequence[int]) -> None:
    """Fill in the type of a tensor."""
    kind.tensorType.dataType = element.proto
    kind.tensorType.rank = len(shape)
    for size in shape:
        kind.tensorType.dimensions.add().constant.size = size


def put(block: MIL_pb2.Block, replacements: Mapping[str, Sequence[MIL_pb2.Operation]]) -> None:
    """Replace operations, by the name of their first result, by others."""
    operations: list[MIL_pb2.Operation] = []
    for operation in block.operations:
        name = operation.outputs[0].name if operation.outputs else ""
        operations += replacements.get(name, [operation])
    del block.operations[:]
    block.operations.extend(operations)


def unneeded(block: MIL_pb2.Block) -> set[str]:
    """Return the names of the results that nothing needs, in nested blocks too."""
    pruned = MIL_pb2.Block()
    pruned.CopyFrom(block)
    prune(pruned, frozenset())
    return set(names_defined(block)) - set(names_defined(pruned))


def prune(block: MIL_pb2.Block, spared: AbstractSet[str]) -> None:
    """Remove the operations that nothing needs, but for those whose results are spared."""
    live = set(block.outputs)
    kept: list[MIL_pb2.Operation] = []
    for operation in reversed(block.operations):
        for nested in operation.blocks:
            prune(nested, spared)
        results = {output.name for output in operation.outputs}
        if not results or operation.type in _EFFECTS or results & (live | spared):
            kept.append(operation)
            live.update(names_read(operation))
    kept.reverse()
    del block.operations[:]
    block.operations.extend(kept)
