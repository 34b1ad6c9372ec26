"""What an artifact says of itself: its inputs, outputs and metadata, by each file that says it.

A bundle says it three times (`model.mil`, `coremldata.bin`, `metadata.json`), a package twice (the program and its
description). What a device goes by differs, so each account is held against the contract.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil.bundle import read_data, read_file
from mil.description import read_metadata
from mil.package import Package
from mil.program import Program
from mil.schema import FeatureTypes_pb2, MIL_pb2
from mil.values import TensorType, specialization, tensor_type

Length = tuple[int, int | None] | None  # smallest and largest, None for no limit; None where it is not said

_DTYPES = {"fp32": "float32", "fp16": "float16", "fp64": "float64", "int32": "int32"}
_ARRAYS = FeatureTypes_pb2.ArrayFeatureType
_ARRAY_DTYPES = {
    _ARRAYS.FLOAT32: "float32",
    _ARRAYS.FLOAT16: "float16",
    _ARRAYS.DOUBLE: "float64",
    _ARRAYS.INT32: "int32",
}


@dataclass(frozen=True)
class Port:
    """One input or output.

    lengths   of each axis; None where even the rank is not said
    shapes    the shapes to choose from, where they are enumerated
    """

    dtype: str
    lengths: tuple[Length, ...] | None
    shapes: tuple[tuple[int, ...], ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Account:
    """What one file says.

    metadata   None where the file holds none
    """

    where: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    metadata: Mapping[str, str] | None = None


def accounts(path: Path, package: Package) -> list[Account]:
    """Return every account of an artifact that there is; raises MilError for what is no program."""
    bundle = path.suffix == ".mlmodelc"
    program = Program(package)
    found = [_by_program(program, "model.mil" if bundle else "the program")]
    if not bundle:
        return [*found, _by_description(package.spec.description, program, "the description")]
    if read_data(path) is not None:
        found.append(_by_description(package.spec.description, program, "coremldata.bin"))
    if (path / "metadata.json").exists():
        found.append(_by_metadata(read_metadata(read_file(path / "metadata.json"))))
    return found


def _by_program(program: Program, where: str) -> Account:
    types = {name: kind for stage in program.stages for name, kind in _made(specialization(stage.function(None)))}
    return Account(
        where,
        {feature.name: _of_type(feature.type, feature.fill is not None) for feature in program.inputs()},
        {name: _of_type(types.get(name)) for name in program.outputs()},
    )


def _made(block: MIL_pb2.Block) -> Iterable[tuple[str, TensorType | None]]:
    return ((output.name, tensor_type(output.type)) for operation in block.operations for output in operation.outputs)


def _of_type(kind: TensorType | None, optional: bool = False) -> Port:
    if kind is None:
        return Port("", None)
    lengths = None if kind.shape is None else tuple(None if size is None else (size, size) for size in kind.shape)
    return Port(_DTYPES.get(kind.element.name, kind.element.name), lengths, optional=optional)


def _by_description(description: Any, program: Program, where: str) -> Account:
    name = program.stages[0].default_function if len(program.stages) == 1 else None
    about = next((function for function in description.functions if function.name == name), description)
    return Account(
        where,
        {feature.name: _of_feature(feature.type) for feature in about.input},
        {feature.name: _of_feature(feature.type) for feature in about.output},
        dict(description.metadata.userDefined),
    )


def _of_feature(kind: Any) -> Port:
    array = kind.multiArrayType
    dtype = _ARRAY_DTYPES.get(array.dataType, str(array.dataType))
    if kind.WhichOneof("Type") != "multiArrayType":
        dtype = str(kind.WhichOneof("Type")).removesuffix("Type")
    ranges = array.shapeRange.sizeRanges
    lengths: tuple[Length, ...] | None = tuple((size, size) for size in array.shape) or None
    if ranges:
        lengths = tuple((size.lowerBound, None if size.upperBound < 0 else size.upperBound) for size in ranges)
    shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
    return Port(dtype, lengths, shapes, kind.isOptional)


def _by_metadata(metadata: Mapping[str, Any]) -> Account:
    texts = metadata.get("userDefinedMetadata")
    return Account(
        "metadata.json",
        _of_entries(metadata.get("inputSchema")),
        _of_entries(metadata.get("outputSchema")),
        {str(key): str(value) for key, value in texts.items()} if isinstance(texts, dict) else {},
    )


def _of_entries(entries: Any) -> dict[str, Port]:
    kept = [entry for entry in entries or () if isinstance(entry, dict)]
    return {str(entry.get("name")): _of_entry(entry) for entry in kept}


def _of_entry(entry: Mapping[str, Any]) -> Port:
    """Return an input or output as metadata.json has it, such as `"shape" : "[1, 589, 7]"`, or with a range."""
    lengths: tuple[Length, ...] | None = None
    if entry.get("hasShapeFlexibility") == "0":
        lengths = tuple((size, size) for size in _numbers(entry.get("shape"))) or None
    elif "shapeRange" in entry:
        pairs = re.findall(r"\[(\d+), (-?\d+)\]", str(entry["shapeRange"]))
        lengths = tuple((int(low), None if int(high) < 0 else int(high)) for low, high in pairs) or None
    return Port(str(entry.get("dataType", "")).lower(), lengths, optional=entry.get("isOptional") == "1")


def _numbers(text: Any) -> list[int]:
    try:
        found = json.loads(str(text))
    except ValueError:
        return []
    return [size for size in found if isinstance(size, int)] if isinstance(found, list) else []
