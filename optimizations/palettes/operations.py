"""How a program holds a palettized weight: the operations of iOS 16 and iOS 18, and the weight files behind them."""

from dataclasses import dataclass

import numpy as np

from mil.package import Package
from mil.packing import unpack
from mil.schema import MIL_pb2
from mil.types import BY_NAME
from mil.values import decode
from optimizations.palettes.palette import Layout, Weight
from optimizations.weights.codes import looked_up
from optimizations.weights.constants import Constant
from optimizations.weights.files import WeightFiles


@dataclass(frozen=True)
class Parts:
    """The constants that a palettized weight is held as, in files already.

    shape    given by the form of iOS 16 only
    scales   None where there are none
    """

    indices: MIL_pb2.Value
    entries: MIL_pb2.Value
    shape: MIL_pb2.Value | None
    scales: MIL_pb2.Value | None


def store(weight: Weight, layout: Layout, shape: tuple[int, ...], newer: bool, files: WeightFiles, name: str) -> Parts:
    """Write a palettized weight into a weight file, in the form of iOS 18 (`newer`) or that of iOS 16."""
    if not newer:
        indices = files.stored(weight.indices, BY_NAME["uint8"], weight.indices.shape, name)
        extent = files.array(np.array(shape, np.uint32), name)
        return Parts(indices, files.array(weight.entries[0], name), extent, None)
    indices = files.stored(weight.indices, BY_NAME[f"uint{layout.nbits}"], shape, name)
    lut = weight.entries.reshape(*_along(layout, shape, layout.groups), -1, 1)
    scales = weight.scales
    if scales is not None:
        scales = scales.reshape(_along(layout, shape, scales.size))
    return Parts(indices, files.array(lut, name), None, None if scales is None else files.array(scales, name))


def _along(layout: Layout, shape: tuple[int, ...], size: int) -> list[int]:
    return [size if axis == layout.axis else 1 for axis in range(len(shape))]


def replace(constant: Constant, parts: Parts) -> None:
    """Turn a `const` operation into `constexpr_lut_to_dense` of the same name and type, scaled after it where needed.

    iOS 16 has all in attributes and gives the shape; iOS 18 has inputs, and the shape is that of the indices.
    """
    operation = constant.operation
    operation.attributes.pop("val", None)
    operation.type = "constexpr_lut_to_dense"
    if parts.shape is not None:
        for key, value in (("indices", parts.indices), ("lut", parts.entries), ("shape", parts.shape)):
            operation.attributes[key].CopyFrom(value)
        return
    if parts.scales is not None:
        lookup = _insert_before(constant)
        operation.type = "constexpr_blockwise_shift_scale"
        operation.inputs["data"].arguments.add().name = lookup.outputs[0].name
        operation.inputs["scale"].arguments.add().value.CopyFrom(parts.scales)
        operation = lookup
    for key, value in (("indices", parts.indices), ("lut", parts.entries)):
        operation.inputs[key].arguments.add().value.CopyFrom(value)


def _insert_before(constant: Constant) -> MIL_pb2.Operation:
    """Insert a copy of the operation, under a name of its own, before it and return the copy."""
    operations = constant.block.operations
    place = next(i for i, each in enumerate(operations) if constant.name in (output.name for output in each.outputs))
    taken = {output.name for each in operations for output in each.outputs}
    name = f"{constant.name}_unscaled"
    while name in taken:
        name += "_"
    copied = MIL_pb2.Operation()
    copied.CopyFrom(constant.operation)
    copied.outputs[0].name = name
    if "name" in copied.attributes:
        copied.attributes["name"].immediateValue.tensor.strings.values[:] = [name]
    operations.insert(place, copied)
    return operations[place]


def decoded(operation: MIL_pb2.Operation, block: MIL_pb2.Block, package: Package) -> np.ndarray:
    """Return the weight that operations written by `replace` stand for, in its own type."""
    if operation.type == "constexpr_blockwise_shift_scale":
        source = operation.inputs["data"].arguments[0].name
        lookup = next(each for each in block.operations if each.outputs and each.outputs[0].name == source)
        scale = decode(operation.inputs["scale"].arguments[0].value, package)
        return decoded(lookup, block, package) * scale
    if "shape" in operation.attributes:
        indices, lut, shape = (decode(operation.attributes[key], package) for key in ("indices", "lut", "shape"))
        nbits = lut.size.bit_length() - 1
        return looked_up(lut, unpack(indices, BY_NAME[f"uint{nbits}"], int(np.prod(shape)))).reshape(shape)
    indices, lut = (decode(operation.inputs[key].arguments[0].value, package) for key in ("indices", "lut"))
    groups = lut.shape[:-2]
    axis = int(np.argmax(groups))
    each = np.moveaxis(indices, axis, 0).reshape(groups[axis], -1)  # (group, index)
    dense = np.take_along_axis(lut.reshape(groups[axis], -1), each, axis=1)
    return np.moveaxis(dense.reshape(np.moveaxis(indices, axis, 0).shape), 0, axis)
