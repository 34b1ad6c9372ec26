"""What a function is called with: its inputs as the program and the model's description declare them, and checked."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from mil.errors import MilError
from mil.schema import MIL_pb2, Model_pb2
from mil.values import TensorType, tensor_type

Range: TypeAlias = tuple[int, int | None]


@dataclass(frozen=True)
class Feature:
    """One input, output or state.

    type      what the program declares
    default   the shape that the model's description gives first
    ranges    the smallest and largest size per axis, where the description says so; None is no limit
    choices   the shapes to choose from, where the description enumerates them
    fill      the value of an optional input that is left out
    image     RGB, BGR or GRAYSCALE, where Core ML would take a picture
    """

    name: str
    type: TensorType
    default: tuple[int, ...] = ()
    ranges: tuple[Range, ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()
    fill: float | None = None
    image: str | None = None

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}"
        if self.choices:
            text += " of shape " + " or ".join(str(list(shape)) for shape in self.choices)
        elif self.ranges:
            text += " of sizes " + " × ".join(_range(size) for size in self.ranges)
        return text + ("" if self.fill is None else f", optional ({self.fill:g})")


def _range(size: Range) -> str:
    low, high = size
    return str(low) if low == high else f"{low}…{'' if high is None else high}"


def features(
    declared: Iterable[MIL_pb2.NamedValueType], described: Iterable[Model_pb2.FeatureDescription]
) -> tuple[Feature, ...]:
    """Return the features of a function's inputs, with what the model's description adds to them."""
    descriptions = {description.name: description for description in described}
    found = []
    for value in declared:
        kind = tensor_type(value.type)
        if kind is None:
            raise MilError(f"input `{value.name}`: expected a tensor or a state")
        description = descriptions.get(value.name)
        found.append(Feature(value.name, kind) if description is None else _described(value.name, kind, description))
    return tuple(found)


def _described(name: str, kind: TensorType, description: Model_pb2.FeatureDescription) -> Feature:
    which = description.type.WhichOneof("Type")
    if which == "imageType":
        color = description.type.imageType.ColorSpace.Name(description.type.imageType.colorSpace)
        return Feature(name, kind, image=color.removesuffix("_FLOAT16"))
    if which == "stateType":
        return Feature(name, kind, tuple(description.type.stateType.arrayType.shape))
    if which != "multiArrayType":
        return Feature(name, kind)
    array = description.type.multiArrayType
    fill = array.WhichOneof("defaultOptionalValue")
    return Feature(
        name,
        kind,
        default=tuple(array.shape),
        ranges=tuple(
            (size.lowerBound, None if size.upperBound < 0 else size.upperBound) for size in array.shapeRange.sizeRanges
        ),
        choices=tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes),
        fill=None if not description.type.isOptional else float(getattr(array, fill)) if fill else 0.0,
    )


def accept(wanted: Iterable[Feature], given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return every input as an array of its declared dtype, optional ones filled in.

    Raises MilError for missing and unknown names, and for values of a wrong shape, kind or range.
    """
    by_name = {feature.name: feature for feature in wanted}
    for name in given:
        if name not in by_name:
            close = get_close_matches(str(name), by_name, 1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise MilError(f"input `{name}`: the program has {_listed(by_name)}{hint}")
    missing = [str(feature) for name, feature in by_name.items() if name not in given and feature.fill is None]
    if missing:
        raise MilError(f"missing {'input' if len(missing) == 1 else 'inputs'}: {'; '.join(missing)}")
    return {name: _accepted(feature, given.get(name)) for name, feature in by_name.items()}


def drawn(feature: Feature, generator: np.random.Generator) -> np.ndarray:
    """Return an input to try a program with: normal floats, zero integers, of the default or smallest shape."""
    shape = feature.default or tuple(feature.choices[0] if feature.choices else ())
    if not shape:
        shape = tuple(1 if size is None else size for size in feature.type.shape or ())
    if math.prod(shape) > _LARGEST_DEFAULT:
        raise MilError(f"input `{feature.name}`: a shape of {list(shape)} is too large to draw")
    if feature.type.element.kind == "float":
        return generator.standard_normal(shape).astype(np.float32)
    return np.zeros(shape, feature.type.element.numpy)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "no inputs"


def _accepted(feature: Feature, value: Any) -> np.ndarray:
    if value is None and feature.fill is not None:
        if math.prod(feature.default) > _LARGEST_DEFAULT:
            raise MilError(f"input `{feature.name}`: a default of shape {list(feature.default)} is too large")
        value = np.full(feature.default, feature.fill)
    array = _as_array(feature, value)
    if not feature.type.admits(array.shape):
        raise MilError(f"input `{feature.name}`: expected {feature.type}, found a shape of {list(array.shape)}")
    if feature.choices and array.shape not in feature.choices:
        shapes = " or ".join(str(list(shape)) for shape in feature.choices)
        raise MilError(f"input `{feature.name}`: expected a shape of {shapes}, found {list(array.shape)}")
    if feature.ranges and not _in_ranges(array.shape, feature.ranges):
        sizes = " × ".join(_range(size) for size in feature.ranges)
        raise MilError(f"input `{feature.name}`: expected sizes {sizes}, found {list(array.shape)}")
    return _converted(feature, array)


_LARGEST_DEFAULT = 2**28


def _as_array(feature: Feature, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # lists of uneven lengths; tensors of another device
        kind = type(value).__name__
        raise MilError(f"input `{feature.name}`: expected {feature.type}, found a {kind} that is no array") from None


def _in_ranges(shape: tuple[int, ...], ranges: tuple[Range, ...]) -> bool:
    return len(shape) == len(ranges) and all(
        low <= size and (high is None or size <= high) for size, (low, high) in zip(shape, ranges, strict=True)
    )


def _converted(feature: Feature, array: np.ndarray) -> np.ndarray:
    """Return the array in its declared dtype: floats are rounded to it, integers must fit it."""
    element = feature.type.element
    allowed = {"float": "fiu", "int": "iu", "uint": "iu", "bool": "b"}.get(element.kind, "")
    if array.dtype.kind not in allowed:
        raise MilError(f"input `{feature.name}`: expected {feature.type}, found {array.dtype}")
    if element.kind in ("int", "uint") and array.size:
        limits = np.iinfo(element.numpy) if element.numpy is not None else np.iinfo(np.int64)
        if array.min() < limits.min or array.max() > limits.max:
            raise MilError(
                f"input `{feature.name}`: values from {array.min()} to {array.max()} do not fit {element.name}"
            )
    with np.errstate(over="ignore"):  # what is too large for fp16 is infinite in it
        return array.astype(element.numpy if element.numpy is not None else np.float32, copy=False)
