"""The elements of immediate tensor values, as literals of `model.mil` and back.

Elements lie in the protobuf field that coremltools 9.0 writes their type to; `_FIELDS` is that table.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from mil.errors import MilError, UnknownFormError
from mil.literals import FLOAT_FORMATS, format_float, format_string, parse_float, parse_string
from mil.packing import pack, packed_size, unpack
from mil.schema import MIL_pb2
from mil.types import ElementType

_FIELDS = {
    "bool": "bools",
    "string": "strings",
    "fp32": "floats",
    "fp64": "doubles",
    "int16": "ints",
    "uint16": "ints",
    "int32": "ints",
    "int64": "longInts",
    "uint64": "longInts",
} | dict.fromkeys(("fp16", "bf16", "int4", "int8", "uint1", "uint2", "uint3", "uint4", "uint6", "uint8"), "bytes")
_FIELDS["uint32"] = "bytes"
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_TRUTH = {"false": False, "true": True}


def read_literals(tensor: MIL_pb2.TensorValue, element: ElementType, count: int | None) -> list[str]:
    """Return the elements of a value as literals, in row-major order.

    count   how many there have to be; None where the type leaves it open

    Raises MilError where the value does not hold elements of that type, or not so many.
    """
    if element.name not in _FIELDS:
        raise UnknownFormError(f"immediate values of {element.name}: their text form is not known")
    field = tensor.WhichOneof("value")
    if field == "bytes":
        literals = _read_bytes(tensor.bytes.values, element, count)
    elif field is None:
        literals = []
    else:
        read = _reader(field, element)
        literals = [read(stored) for stored in getattr(tensor, field).values]
    if count is not None and len(literals) != count:
        raise MilError(f"an immediate value: expected {count} elements of {element.name}, found {len(literals)}")
    return literals


def store_literals(tensor: MIL_pb2.TensorValue, element: ElementType, literals: Sequence[str]) -> None:
    """Set the elements of a value; raises MilError for a literal that is none of the type."""
    field = _FIELDS.get(element.name)
    if field is None:
        raise UnknownFormError(f"immediate values of {element.name}: their text form is not known")
    getattr(tensor, field).SetInParent()
    if field == "bytes":
        tensor.bytes.values = _to_bytes(literals, element)
    else:
        parse = _parser(element)
        getattr(tensor, field).values.extend([parse(literal) for literal in literals])


def _reader(field: str, element: ElementType) -> Callable[..., str]:
    if field == "strings" and element.kind == "string":
        return format_string
    if field == "bools" and element.kind == "bool":
        return _format_bool
    if field in ("ints", "longInts") and element.kind in ("int", "uint"):
        return lambda stored: _format_integer(stored, element)
    if field == _FIELDS[element.name] and element.kind == "float":
        return lambda stored: format_float(_bits_of(stored, element), FLOAT_FORMATS[element.name])
    raise MilError(f"an immediate value of {element.name}: its elements lie in `{field}`, which cannot hold them")


def _format_bool(stored: bool) -> str:
    return "true" if stored else "false"


def _format_integer(stored: int, element: ElementType) -> str:
    """Return the literal; an unsigned value above the range of the signed field that stores it has wrapped around."""
    value = stored + (1 << element.bits) if element.kind == "uint" and stored < 0 else stored
    return str(_in_range(value, element))


def _bits_of(stored: float, element: ElementType) -> int:
    return int(np.array(stored, element.numpy).view(f"u{element.bits // 8}"))


def _read_bytes(data: bytes, element: ElementType, count: int | None) -> list[str]:
    if element.kind == "string":
        raise MilError("an immediate string: its elements lie in `bytes`, which cannot hold them")
    if count is None:
        count = len(data) * 8 // element.bits
    if len(data) != packed_size(element, count):
        raise MilError(f"an immediate value: {len(data)} bytes are not {count} elements of {element.name}")
    stored = np.frombuffer(data, np.uint8)
    if element.kind == "float":
        layout = FLOAT_FORMATS[element.name]
        return [format_float(bits, layout) for bits in stored.view(f"<u{element.bits // 8}").tolist()]
    values = unpack(stored, element, count).tolist()
    return [_format_bool(value) if element.kind == "bool" else str(value) for value in values]


def _parser(element: ElementType) -> Callable[[str], bool | int | float | str]:
    match element.kind:
        case "string":
            return _parse_string
        case "bool":
            return _parse_bool
        case "float":
            return lambda literal: _parse_stored_float(literal, element)
    return lambda literal: _parse_stored_integer(literal, element)


def _parse_string(literal: str) -> str:
    if not literal.startswith('"'):
        raise MilError(f"{literal}: expected a string")
    return parse_string(literal)


def _parse_bool(literal: str) -> bool:
    if literal not in _TRUTH:
        raise MilError(f"{literal}: expected true or false")
    return _TRUTH[literal]


def _parse_stored_float(literal: str, element: ElementType) -> float:
    bits = parse_float(literal, FLOAT_FORMATS[element.name])
    return float(np.array(bits, f"u{element.bits // 8}").view(element.numpy))


def _parse_integer(literal: str, element: ElementType) -> int:
    if not _INTEGER.fullmatch(literal):
        raise MilError(f"{literal}: expected an integer")
    return _in_range(int(literal), element)


def _parse_stored_integer(literal: str, element: ElementType) -> int:
    value = _parse_integer(literal, element)
    return value - (1 << 64) if value >= 1 << 63 else value


def _in_range(value: int, element: ElementType) -> int:
    signed = element.kind == "int"
    if not -(signed << (element.bits - 1)) <= value < 1 << (element.bits - signed):
        raise MilError(f"{value}: does not fit {element.name}")
    return value


def _to_bytes(literals: Sequence[str], element: ElementType) -> bytes:
    if element.kind == "float":
        layout = FLOAT_FORMATS[element.name]
        return np.array([parse_float(literal, layout) for literal in literals], f"<u{element.bits // 8}").tobytes()
    return pack(np.array([_parse_integer(literal, element) for literal in literals], element.numpy), element).tobytes()


def nested(literals: list[str], shape: Sequence[int]) -> str:
    """Return literals in brackets nested to a shape; the bare literal for a scalar."""
    for axis in reversed(range(len(shape))):
        outer, size = math.prod(shape[:axis]), shape[axis]
        literals = [f"[{', '.join(literals[size * i : size * (i + 1)])}]" for i in range(outer)]
    (text,) = literals
    return text
