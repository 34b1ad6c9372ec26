"""A model's description, rebuilt from its function and `metadata.json` where a bundle has no `coremldata.bin`.

What metadata.json says of an input or output is taken where it can be: pictures, ranges, order and texts are known
from nowhere else. The rest follows from the types that the function declares.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mil.errors import MilError
from mil.feature_entries import ARRAY_TYPES
from mil.flexible import ShapeRange, read_flexible_shapes
from mil.grammar import FLEXIBLE_SHAPES, Dialect, dialect_of, opset_of_proto
from mil.schema import FeatureTypes_pb2, MIL_pb2, Model_pb2
from mil.traverse import block_of
from mil.types import element_type

Metadata = dict[str, Any]

_NEWEST_SPECIFICATION = 100

_ARRAYS = {
    "fp32": ARRAY_TYPES["Float32"],
    "fp16": ARRAY_TYPES["Float16"],
    "fp64": ARRAY_TYPES["Double"],
    "int32": ARRAY_TYPES["Int32"],
    "int8": ARRAY_TYPES["Int8"],
}
_TEXTS = {
    "shortDescription": "shortDescription",
    "version": "versionString",
    "author": "author",
    "license": "license",
}


def read_metadata(content: bytes) -> Metadata:
    """Return the one entry of metadata.json; raises MilError where it is not JSON with an entry."""
    try:
        (entry,) = json.loads(content)
        json.dumps(entry, ensure_ascii=False).encode()  # refuses halves of surrogate pairs, which no protobuf holds
    except (ValueError, TypeError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise MilError("metadata.json: expected a list of one entry, in JSON")
    return entry


def specification_of(program: MIL_pb2.Program, dialect: Dialect, metadata: Metadata) -> int:
    """Return the specification version: as metadata.json says, else the oldest that the program can have."""
    stated = metadata.get("specificationVersion")
    if isinstance(stated, int) and 0 < stated <= _NEWEST_SPECIFICATION and dialect_of(stated) == dialect:
        return stated
    needed = [opset_of_proto(function.opset).specification for function in program.functions.values()]
    return max([version for version in (6, 9) if dialect_of(version) == dialect] + needed)


def rebuilt_description(program: MIL_pb2.Program, metadata: Metadata) -> Model_pb2.ModelDescription:
    """Return the description of a program; raises MilError for an input or output that Core ML cannot describe.

    A program of one function gets a plain description, of several one description each.
    """
    description = Model_pb2.ModelDescription()
    for key, field in _TEXTS.items():
        if text := _text(metadata, key):
            setattr(description.metadata, field, text)
    user_defined = metadata.get("userDefinedMetadata")
    for key, value in user_defined.items() if isinstance(user_defined, dict) else ():
        description.metadata.userDefined[str(key)] = str(value)
    if len(program.functions) == 1:
        (function,) = program.functions.values()
        _describe(description, function, metadata)
        _name_predictions(description, function)
        return description
    entries = _entries(metadata, "functions")
    for name in sorted(program.functions):
        _describe(description.functions.add(name=name), program.functions[name], entries.get(name, {}))
    default = _text(metadata, "defaultFunctionName")
    description.defaultFunctionName = default if default in program.functions else min(program.functions, default="")
    return description


def _name_predictions(description: Model_pb2.ModelDescription, function: MIL_pb2.Function) -> None:
    """Say which outputs are a classifier's label and probabilities: those that `classify` gives."""
    for operation in block_of(function).operations:
        if operation.type == "classify" and len(operation.outputs) == 2:
            description.predictedFeatureName, description.predictedProbabilitiesName = (
                output.name for output in operation.outputs
            )


def _describe(description: Any, function: MIL_pb2.Function, metadata: Metadata) -> None:
    ranges = {}
    if FLEXIBLE_SHAPES in function.attributes:
        ranges = read_flexible_shapes(function.attributes[FLEXIBLE_SHAPES])
    inputs = [one for one in function.inputs if one.type.WhichOneof("type") != "stateType"]
    states = [one for one in function.inputs if one.type.WhichOneof("type") == "stateType"]
    for features, values, key in (
        (description.input, inputs, "inputSchema"),
        (description.output, _outputs(function), "outputSchema"),
        (description.state, states, "stateSchema"),
    ):
        entries = _entries(metadata, key)
        for value in _ordered(values, list(entries)):
            _feature(features.add(), value, entries.get(value.name, {}), ranges.get(value.name))


def _ordered(values: Iterable[MIL_pb2.NamedValueType], names: Sequence[str]) -> list[MIL_pb2.NamedValueType]:
    """Return values in the order of names; those not named keep their order, at the end."""
    position = {name: i for i, name in enumerate(names)}
    return sorted(values, key=lambda value: position.get(value.name, len(position)))


def _outputs(function: MIL_pb2.Function) -> list[MIL_pb2.NamedValueType]:
    block = block_of(function)
    known = {one.name: one for one in function.inputs}
    known |= {output.name: output for operation in block.operations for output in operation.outputs}
    missing = [name for name in block.outputs if name not in known]
    if missing:
        raise MilError(f"the function returns {missing[0]!r}, which no operation makes")
    return [known[name] for name in block.outputs]


def _feature(
    feature: Model_pb2.FeatureDescription, value: MIL_pb2.NamedValueType, entry: Metadata, ranges: ShapeRange | None
) -> None:
    feature.name, feature.shortDescription = value.name, _text(entry, "shortDescription")
    feature.type.isOptional = entry.get("isOptional") == "1"
    match value.type.WhichOneof("type"):
        case "tensorType" if entry.get("type") == "Image":
            _image(feature.type.imageType, entry, ranges)
        case "tensorType" if entry.get("type") in ("Int64", "String", "Double"):
            getattr(feature.type, f"{entry['type'].lower()}Type").SetInParent()
        case "tensorType":
            _array(feature.type.multiArrayType, value, entry, ranges)
        case "stateType":
            held = MIL_pb2.NamedValueType(name=value.name, type=value.type.stateType.wrappedType)
            _array(feature.type.stateType.arrayType, held, entry, None)
        case "dictionaryType":
            keys = element_type(value.type.dictionaryType.keyType.tensorType.dataType)
            kind = "stringKeyType" if keys.kind == "string" else "int64KeyType"
            getattr(feature.type.dictionaryType, kind).SetInParent()
        case kind:
            raise MilError(f"{value.name!r}: a {kind} is nothing that a Core ML model takes or gives")


def _array(array: Any, value: MIL_pb2.NamedValueType, entry: Metadata, ranges: ShapeRange | None) -> None:
    element = element_type(value.type.tensorType.dataType).name
    stated = ARRAY_TYPES.get(_text(entry, "dataType"))
    if stated is None and element not in _ARRAYS:
        raise MilError(f"{value.name!r}: Core ML has no arrays of {element}; expected one of {', '.join(_ARRAYS)}")
    array.dataType = _ARRAYS[element] if stated is None else stated
    sizes = value.type.tensorType.dimensions
    if ranges is not None:
        array.shape.extend(ranges.default)
        for low, high in ranges.ranges:
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    elif all(size.WhichOneof("dimension") == "constant" for size in sizes):
        array.shape.extend([size.constant.size for size in sizes] or _stated_shape(entry))


def _stated_shape(entry: Metadata) -> list[int]:
    """Return the shape that metadata.json states for a scalar: none, or `[1]`."""
    return [1] if entry.get("shape") == "[1]" else []


def _image(image: Any, entry: Metadata, ranges: ShapeRange | None) -> None:
    try:
        image.width, image.height = int(entry["width"]), int(entry["height"])
        image.colorSpace = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value(entry["colorspace"])
    except (KeyError, ValueError, TypeError):
        raise MilError("metadata.json: an image without width, height or color space") from None
    if ranges is not None and len(ranges.ranges) > 1:
        sizes = image.imageSizeRange
        for size, (low, high) in zip((sizes.heightRange, sizes.widthRange), ranges.ranges[-2:], strict=True):
            size.lowerBound, size.upperBound = low, high


def _entries(metadata: Metadata, key: str) -> dict[str, Metadata]:
    """Return the entries of a list in metadata.json by their names."""
    found = metadata.get(key)
    entries = found if isinstance(found, list) else []
    return {_text(entry, "name"): entry for entry in entries if isinstance(entry, dict)}


def _text(entry: Metadata, key: str) -> str:
    found = entry.get(key, "")
    return found if isinstance(found, str) else ""
