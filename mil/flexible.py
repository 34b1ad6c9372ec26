"""`FlexibleShapeInformation`: what the compiler writes on a function whose inputs come in a range of shapes.

It holds, for each such input in the order of their names, the default shape and the range of every dimension, both
from the model's description. Bundles without it have been seen to give NaN on newer systems.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mil.errors import MilError, UnknownFormError
from mil.literals import format_string
from mil.parse import parse_value
from mil.schema import MIL_pb2, Model_pb2

DEFAULT_SHAPES, RANGE_DIMENSIONS = "DefaultShapes", "RangeDims"
_STRING = "tensor<string, []>"
_TYPE = (
    f"tuple<tuple<{_STRING}, dict<{_STRING}, tensor<int32, [?]>>>, "
    f"tuple<{_STRING}, dict<{_STRING}, list<tensor<int32, [2]>, ?>>>>"
)


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that an input may have.

    ranges   smallest and largest size of every dimension; the largest is -1 where there is no limit
    """

    default: list[int]
    ranges: list[tuple[int, int]]


def shape_ranges(
    function: MIL_pb2.Function, described: Iterable[Model_pb2.FeatureDescription]
) -> dict[str, ShapeRange]:
    """Return the ranges of the inputs that have one, by name.

    Raises UnknownFormError for enumerated shapes, and MilError for an input with a dimension that
    the program leaves open and the description does not limit.
    """
    features = {feature.name: feature for feature in described}
    found = {}
    for declared in function.inputs:
        dimensions = declared.type.tensorType.dimensions
        sizes = [one.constant.size if one.WhichOneof("dimension") == "constant" else None for one in dimensions]
        shapes = _described(features[declared.name], sizes) if declared.name in features else None
        if shapes is not None:
            found[declared.name] = shapes
        elif None in sizes:
            raise MilError(f"input {declared.name!r}: a dimension is open and the description gives no range for it")
    return found


def flexible_shapes(ranges: dict[str, ShapeRange]) -> MIL_pb2.Value:
    """Return the attribute's value for some inputs."""
    names = sorted(ranges)
    defaults = ", ".join(f"{{{format_string(name)}, {ranges[name].default}}}" for name in names)
    limits = ", ".join(f"{{{format_string(name)}, {[list(pair) for pair in ranges[name].ranges]}}}" for name in names)
    entries = f'("{DEFAULT_SHAPES}", {{{defaults}}}), ("{RANGE_DIMENSIONS}", {{{limits}}})'
    try:
        return parse_value(f"{_TYPE}(({entries}))")
    except MilError as error:  # a size beyond 32 bits
        raise MilError(f"the ranges of the inputs {', '.join(names)}: {error}") from None


def read_flexible_shapes(value: MIL_pb2.Value) -> dict[str, ShapeRange]:
    """Return the ranges that an attribute's value holds; raises MilError where it holds no ranges."""
    try:
        entries = {_text(entry[0]): _pairs(entry[1]) for entry in map(_members, value.immediateValue.tuple.values)}
        defaults, limits = entries[DEFAULT_SHAPES], entries[RANGE_DIMENSIONS]
        return {name: ShapeRange(_numbers(defaults[name]), _limits(limits[name])) for name in defaults}
    except (IndexError, KeyError, ValueError):
        raise MilError(
            "FlexibleShapeInformation: expected DefaultShapes and RangeDims of the same inputs; "
            "enumerated shapes are not supported"
        ) from None


def _described(feature: Model_pb2.FeatureDescription, sizes: list[int | None]) -> ShapeRange | None:
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        return _array(feature.name, feature.type.multiArrayType)
    if kind == "imageType":
        return _image(feature.name, feature.type.imageType, sizes)
    return None


def _array(name: str, array: Any) -> ShapeRange | None:
    which = array.WhichOneof("ShapeFlexibility")
    if which == "enumeratedShapes":
        raise _enumerated(name)
    if which is None:
        return None
    return ShapeRange(list(array.shape), [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges])


def _image(name: str, image: Any, sizes: list[int | None]) -> ShapeRange | None:
    """Return the range of a picture, (batch, channel, height, width), whose height and width are ranged."""
    which = image.WhichOneof("SizeFlexibility")
    if which == "enumeratedSizes":
        raise _enumerated(name)
    if which is None:
        return None
    height, width = image.imageSizeRange.heightRange, image.imageSizeRange.widthRange
    fixed = [size or 1 for size in sizes[:-2]]
    ranges = [(height.lowerBound, height.upperBound), (width.lowerBound, width.upperBound)]
    return ShapeRange([*fixed, image.height, image.width], [*((size, size) for size in fixed), *ranges])


def _enumerated(name: str) -> UnknownFormError:
    return UnknownFormError(
        f"input {name!r}: enumerated shapes, whose compiled form is not known; use a range of shapes"
    )


def _members(value: MIL_pb2.Value) -> list[MIL_pb2.Value]:
    return list(value.immediateValue.tuple.values)


def _pairs(value: MIL_pb2.Value) -> dict[str, MIL_pb2.Value]:
    return {_text(pair.key): pair.value for pair in value.immediateValue.dictionary.values}


def _text(value: MIL_pb2.Value) -> str:
    return value.immediateValue.tensor.strings.values[0]


def _numbers(value: MIL_pb2.Value) -> list[int]:
    return list(value.immediateValue.tensor.ints.values)


def _limits(value: MIL_pb2.Value) -> list[tuple[int, int]]:
    pairs = [(low, high) for low, high in map(_numbers, value.immediateValue.list.values)]
    if any(low < 0 for low, _ in pairs):
        raise ValueError(pairs)
    return pairs
