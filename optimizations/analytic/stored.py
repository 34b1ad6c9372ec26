"""Constants as a program stores them: their values, and what each may have been before it was stored."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mil.package import Package
from mil.schema import MIL_pb2
from mil.types import BY_NAME
from mil.values import decode, tensor_type
from optimizations.linear.integers import spread
from optimizations.linear.rewrite import decoded as decoded_integers
from optimizations.palettes.operations import decoded as decoded_palette

# Formulas are evaluated in single precision by others, with angles that are large there: 2πkn loses up to 2e-4.
_OTHERS_ARITHMETIC = 5e-4
_FORMS = {
    "const": "",
    "constexpr_lut_to_dense": "palette",
    "constexpr_affine_dequantize": "integers",
    "constexpr_blockwise_shift_scale": "integers",
}
# Those of iOS 18 that are read here: no offsets, no palettes of vectors.
_INPUTS = frozenset(["indices", "lut", "data", "scale"])


@dataclass(frozen=True)
class Stored:
    """A constant: float64 values, and the bounds between which each may have been before.

    form   "fp32", "fp16", "palette" or "integers"
    """

    form: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


def float_shape(operation: MIL_pb2.Operation) -> tuple[int, ...] | None:
    """Return the shape of a floating-point constant in a form that can be read here, else None."""
    kind = tensor_type(operation.outputs[0].type) if operation.outputs else None
    if operation.type not in _FORMS or kind is None or kind.element.name not in ("fp16", "fp32") or kind.count is None:
        return None
    if operation.inputs.keys() - _INPUTS or any(_is_named(operation, key) for key in ("indices", "lut", "scale")):
        return None
    return kind.known_shape()


def stored(operation: MIL_pb2.Operation, block: MIL_pb2.Block, package: Package) -> Stored:
    """Return a constant that `float_shape` has a shape for."""
    form = _FORMS[operation.type]
    if form == "":
        values = np.asarray(decode(operation.attributes["val"], package))
        unit = np.spacing(np.abs(values)).astype(np.float64) / 2
        return _widened("fp16" if values.dtype == np.float16 else "fp32", values, values - unit, values + unit)
    if form == "integers":
        return _integers(operation, block, package)
    values = decoded_palette(operation, block, package)
    low, high = (_decoded_with(operation, block, package, edge) for edge in (_lower_edges, _upper_edges))
    return _widened(form, values, low, high)


def _integers(operation: MIL_pb2.Operation, block: MIL_pb2.Block, package: Package) -> Stored:
    """Return integers times scales; where these scale a palette, what each value may have been is not known."""
    if _is_named(operation, "data"):
        values = decoded_palette(operation, block, package)
        half = np.zeros(values.shape)
    else:
        values = decoded_integers(operation, package)
        half = _steps(operation, values.shape, package) / 2
    return _widened("integers", values, values - half, values + half)


def _steps(operation: MIL_pb2.Operation, shape: tuple[int, ...], package: Package) -> np.ndarray:
    """Return how far neighbouring integers are apart, for each value: float64 of that shape."""
    if "scale" in operation.inputs:
        return spread(decode(operation.inputs["scale"].arguments[0].value, package).astype(np.float64), shape)
    scale, axis = (decode(operation.attributes[key], package) for key in ("scale", "axis"))
    along = [-1 if place == int(axis) else 1 for place in range(len(shape))]
    return np.broadcast_to(scale.astype(np.float64).reshape(along if scale.size > 1 else [1] * len(shape)), shape)


def _is_named(operation: MIL_pb2.Operation, parameter: str) -> bool:
    return parameter in operation.inputs and bool(operation.inputs[parameter].arguments[0].name)


def _widened(form: str, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> Stored:
    values = values.astype(np.float64)
    slack = _OTHERS_ARITHMETIC * np.abs(values).max(initial=0)
    return Stored(form, values, low.astype(np.float64) - slack, high.astype(np.float64) + slack)


def _decoded_with(
    operation: MIL_pb2.Operation, block: MIL_pb2.Block, package: Package, edges: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Decode a palette with other entries: with the edges of what is nearest to each."""
    copied = MIL_pb2.Operation()
    copied.CopyFrom(operation)
    held = copied.attributes["lut"] if "lut" in copied.attributes else copied.inputs["lut"].arguments[0].value
    entries = np.asarray(decode(held, package)).astype(np.float64)
    groups = edges(entries.reshape(-1, entries.shape[-2] if entries.ndim > 1 else entries.size))
    held.ClearField("blobFileValue")
    held.ClearField("immediateValue")
    held.immediateValue.tensor.floats.values.extend(groups.reshape(-1).tolist())
    held.type.tensorType.dataType = BY_NAME["fp32"].proto
    return decoded_palette(copied, block, package)


def _midpoints(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return order and midpoints of the entries of each palette: (group, entries), (group, entries - 1)."""
    order = np.argsort(entries, axis=1, kind="stable")
    ascending = np.take_along_axis(entries, order, axis=1)
    return order, (ascending[:, 1:] + ascending[:, :-1]) / 2


def _lower_edges(entries: np.ndarray) -> np.ndarray:
    order, between = _midpoints(entries)
    return _placed(order, np.pad(between, ((0, 0), (1, 0)), constant_values=-np.inf))


def _upper_edges(entries: np.ndarray) -> np.ndarray:
    order, between = _midpoints(entries)
    return _placed(order, np.pad(between, ((0, 0), (0, 1)), constant_values=np.inf))


def _placed(order: np.ndarray, edges: np.ndarray) -> np.ndarray:
    found = np.empty_like(edges)
    np.put_along_axis(found, order, edges, axis=1)
    return found
