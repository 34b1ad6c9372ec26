"""The element types of MIL: one row each, read by everything that names, stores or prints a type."""

from dataclasses import dataclass

import numpy as np

from mil.errors import MilError
from mil.schema import MIL_pb2


@dataclass(frozen=True)
class ElementType:
    """One element type of MIL.

    name      as `model.mil` spells it
    proto     the value of `MIL_pb2.DataType`
    bits      width of one element in storage; sub-byte types are packed, least significant bits first
    kind      "float", "int", "uint", "bool" or "string"
    numpy     the dtype that holds decoded values; for sub-byte types the smallest that can; None where numpy has none
    blob      the code of the type in a weight file, or None where a weight file cannot hold it
    """

    name: str
    proto: int
    bits: int
    kind: str
    numpy: np.dtype | None
    blob: int | None


def _row(name: str, proto: str, bits: int, kind: str, numpy: str | None, blob: int | None) -> ElementType:
    return ElementType(
        name, MIL_pb2.DataType.Value(proto), bits, kind, None if numpy is None else np.dtype(numpy), blob
    )


# Blob codes: MILBlob's BlobDataType, as written by coremltools 9.0 (checked against its writer in the tests).
ELEMENT_TYPES = (
    _row("bool", "BOOL", 8, "bool", "bool", None),
    _row("string", "STRING", 0, "string", "object", None),
    _row("fp16", "FLOAT16", 16, "float", "float16", 1),
    _row("fp32", "FLOAT32", 32, "float", "float32", 2),
    _row("fp64", "FLOAT64", 64, "float", "float64", None),
    _row("bf16", "BFLOAT16", 16, "float", None, 5),
    _row("int4", "INT4", 4, "int", "int8", 8),
    _row("int8", "INT8", 8, "int", "int8", 4),
    _row("int16", "INT16", 16, "int", "int16", 6),
    _row("int32", "INT32", 32, "int", "int32", 14),
    _row("int64", "INT64", 64, "int", "int64", None),
    _row("uint1", "UINT1", 1, "uint", "uint8", 9),
    _row("uint2", "UINT2", 2, "uint", "uint8", 10),
    _row("uint3", "UINT3", 3, "uint", "uint8", 12),
    _row("uint4", "UINT4", 4, "uint", "uint8", 11),
    _row("uint6", "UINT6", 6, "uint", "uint8", 13),
    _row("uint8", "UINT8", 8, "uint", "uint8", 3),
    _row("uint16", "UINT16", 16, "uint", "uint16", 7),
    _row("uint32", "UINT32", 32, "uint", "uint32", 15),
    _row("uint64", "UINT64", 64, "uint", "uint64", None),
    _row("fp8e4m3fn", "FLOAT8E4M3FN", 8, "float", None, 16),
    _row("fp8e5m2", "FLOAT8E5M2", 8, "float", None, 17),
)
BY_NAME = {row.name: row for row in ELEMENT_TYPES}
BY_PROTO = {row.proto: row for row in ELEMENT_TYPES}
BY_BLOB = {row.blob: row for row in ELEMENT_TYPES if row.blob is not None}


def element_type(proto: int) -> ElementType:
    """Return the row of a `MIL_pb2.DataType` value; raises MilError for a value that MIL does not define."""
    try:
        return BY_PROTO[proto]
    except KeyError:
        raise MilError(f"element type {proto}: not a type of MIL") from None
