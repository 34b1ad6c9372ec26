"""Types and constants of MIL's protobuf, as numpy arrays and plain Python values."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mil.errors import MilError
from mil.package import Package
from mil.packing import packed_size, unpack
from mil.schema import MIL_pb2
from mil.types import ElementType, element_type

Shape: TypeAlias = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorType:
    """A tensor's declared type; a dimension that is known only at run time is None.

    shape   None where even the rank is known only at run time
    """

    element: ElementType
    shape: Shape | None

    @property
    def count(self) -> int | None:
        """How many elements, or None where a dimension is not known."""
        if self.shape is None:
            return None
        return None if None in self.shape else math.prod(self.known_shape())

    def known_shape(self) -> tuple[int, ...]:
        """Return the shape; raises MilError where a dimension is not known."""
        shape = tuple(size for size in self.shape or () if size is not None)
        if self.shape is None or len(shape) != len(self.shape):
            raise MilError(f"expected a known shape, found {self}")
        return shape

    @property
    def size_bytes(self) -> int | None:
        """How many bytes in storage, or None where a dimension is not known."""
        return None if self.count is None else packed_size(self.element, self.count)

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.element.name}[…]"
        return f"{self.element.name}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of that shape is one of this type."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            declared is None or declared == size for declared, size in zip(self.shape, shape, strict=True)
        )


def tensor_type(declared: MIL_pb2.ValueType) -> TensorType | None:
    """Return the type of a tensor, or of the tensor that a state holds; None for lists, tuples and dictionaries.

    Raises MilError for an element type that MIL does not define.
    """
    which = declared.WhichOneof("type")
    if which == "stateType":
        return tensor_type(declared.stateType.wrappedType)
    if which != "tensorType":
        return None
    tensor = declared.tensorType
    if any(dimension.unknown.variadic for dimension in tensor.dimensions):
        return TensorType(element_type(tensor.dataType), None)
    return TensorType(element_type(tensor.dataType), tuple(_size(dimension) for dimension in tensor.dimensions))


def _size(dimension: MIL_pb2.Dimension) -> int | None:
    return dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None


def decode(value: MIL_pb2.Value, package: Package) -> Any:
    """Return a constant: a numpy array for a tensor, a list or a dict of them, for other values.

    Arrays are as `mil.packing.unpack` gives them; strings are arrays of objects. Raises MilError where the value is
    not what its type says, or the weight file does not hold it.
    """
    if value.WhichOneof("value") == "blobFileValue":
        kind = _constant_type(value)
        return package.blob(value.blobFileValue.fileName).array(
            value.blobFileValue.offset, kind.element, kind.known_shape()
        )
    immediate = value.immediateValue
    match immediate.WhichOneof("value"):
        case "tensor":
            return _immediate_tensor(immediate.tensor, _constant_type(value))
        case "list":
            return [decode(item, package) for item in immediate.list.values]
        case "tuple":
            return [decode(item, package) for item in immediate.tuple.values]
        case "dictionary":
            return {
                decode(pair.key, package).item(): decode(pair.value, package) for pair in immediate.dictionary.values
            }
    raise MilError("a constant without a value")


def decode_string(value: MIL_pb2.Value) -> str:
    """Return a string constant; raises MilError where it is not one."""
    strings = value.immediateValue.tensor.strings.values
    if len(strings) != 1:
        raise MilError("expected a string constant")
    return strings[0]


def _constant_type(value: MIL_pb2.Value) -> TensorType:
    declared = tensor_type(value.type)
    if declared is None or declared.count is None:
        raise MilError(f"a constant needs a tensor type with a known shape, found {declared or 'no tensor'}")
    return declared


def _immediate_tensor(tensor: MIL_pb2.TensorValue, declared: TensorType) -> np.ndarray:
    element, which = declared.element, tensor.WhichOneof("value")
    if which == "bytes":
        flat = _from_bytes(tensor.bytes.values, declared)
    else:
        stored = getattr(tensor, which).values if which else []
        flat = _from_list(list(stored), which, element)
    if flat.size != declared.count:
        raise MilError(f"a constant of type {declared} holds {flat.size} values instead of {declared.count}")
    return flat.reshape(declared.known_shape())


def _from_bytes(content: bytes, declared: TensorType) -> np.ndarray:
    assert declared.count is not None
    if declared.element.kind in ("string", "bool") or len(content) != packed_size(declared.element, declared.count):
        raise MilError(f"a constant of type {declared} is given as {len(content)} bytes, which do not fit it")
    return unpack(np.frombuffer(bytearray(content), np.uint8), declared.element, declared.count)


_LISTS = {"floats": "float", "doubles": "float", "ints": "int", "longInts": "int", "bools": "bool", "strings": "string"}


def _from_list(stored: list, which: str | None, element: ElementType) -> np.ndarray:
    kind = "int" if element.kind == "uint" else element.kind
    if which is not None and _LISTS[which] != kind:
        raise MilError(f"a constant of {element.name} is given as {which}")
    if kind == "int" and stored:
        low = -(1 << (element.bits - 1)) if element.kind == "int" else 0
        if min(stored) < low or max(stored) >= low + (1 << element.bits):
            raise MilError(f"a constant of {element.name} holds {min(stored)} to {max(stored)}, which do not fit it")
    return np.array(stored, element.numpy if element.numpy is not None else np.float32)


def specialization(function: MIL_pb2.Function) -> MIL_pb2.Block:
    """Return the block of a function for its opset."""
    blocks = function.block_specializations
    if function.opset in blocks:
        return blocks[function.opset]
    if len(blocks) == 1:
        return next(iter(blocks.values()))
    raise MilError(f"a function for {function.opset!r} has blocks for {sorted(blocks)} only")


def layer_of(operation: MIL_pb2.Operation) -> str:
    """Return the name that a program gives an operation, or its first output's where it gives none."""
    if "name" in operation.attributes:
        return decode_string(operation.attributes["name"])
    return operation.outputs[0].name if operation.outputs else "unnamed"
