"""How a program holds a palettized weight: the operations of iOS 16 and iOS 18, and the weight files behind them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mil.blob import BlobWriter
from mil.package import MODEL_PATH, Package
from mil.packing import pack, unpack
from mil.schema import MIL_pb2
from mil.types import BY_NAME, ElementType
from mil.values import decode
from optimizations.palettes.constants import Constant
from optimizations.palettes.palette import Layout, Weight

DEFAULT_FILE = f"{MODEL_PATH}/weights/weight.bin"
# coremltools writes constants of fewer elements into the program itself.
_SMALLEST_IN_FILE = 10
_ELEMENTS = {
    np.dtype(np.float16): BY_NAME["fp16"],
    np.dtype(np.float32): BY_NAME["fp32"],
    np.dtype(np.uint32): BY_NAME["uint32"],
}


class WeightFiles:
    """The weight files of a package in the making, each under the name of the one that it follows."""

    def __init__(self, package: Package, folder: Path) -> None:
        self._package = package
        self._folder = folder
        self._writers: dict[str, BlobWriter] = {}
        self._paths: dict[str, Path] = {}
        self._moved: dict[tuple[str, int], int] = {}

    def move(self, value: MIL_pb2.Value) -> None:
        """Copy the entry that a value of the source refers to, once, and let the value refer to the copy."""
        if value.WhichOneof("value") != "blobFileValue":
            return
        name, offset = value.blobFileValue.fileName, value.blobFileValue.offset
        if (name, offset) not in self._moved:
            source = self._package.blob(name)
            entry = source.entry(offset)
            moved = self._writer(name).append_stored(source.stored(entry), entry.element_type, entry.count)
            self._moved[name, offset] = moved
        value.blobFileValue.offset = self._moved[name, offset]

    def array(self, values: np.ndarray, name: str = DEFAULT_FILE) -> MIL_pb2.Value:
        """Return the values, fp16, fp32 or uint32, as a constant; large ones go into the file."""
        element = _ELEMENTS[values.dtype]
        if values.size >= _SMALLEST_IN_FILE:
            return self.stored(pack(values, element), element, values.shape, name)
        value = _typed(element, values.shape)
        if element.name == "fp32":
            value.immediateValue.tensor.floats.values.extend(values.reshape(-1).tolist())
        else:
            value.immediateValue.tensor.bytes.values = pack(values, element).tobytes()
        return value

    def stored(self, content: np.ndarray, element: ElementType, shape: tuple[int, ...], name: str) -> MIL_pb2.Value:
        """Return elements that are packed already as a constant in the file."""
        value = _typed(element, shape)
        value.blobFileValue.fileName = name
        value.blobFileValue.offset = self._writer(name).append_stored(content, element, int(np.prod(shape)))
        return value

    def close(self) -> dict[str, Path]:
        """Complete the files; return where each lies, by its name relative to the model."""
        for writer in self._writers.values():
            writer.close()
        return {name.removeprefix(f"{MODEL_PATH}/"): path for name, path in self._paths.items()}

    def _writer(self, name: str) -> BlobWriter:
        if name not in self._writers:
            self._paths[name] = self._folder / f"{len(self._paths)}.bin"
            self._writers[name] = BlobWriter(self._paths[name])
        return self._writers[name]


def _typed(element: ElementType, shape: tuple[int, ...]) -> MIL_pb2.Value:
    value = MIL_pb2.Value()
    value.type.tensorType.dataType = element.proto
    value.type.tensorType.rank = len(shape)
    for size in shape:
        value.type.tensorType.dimensions.add().constant.size = size
    return value


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
        return lut[unpack(indices, BY_NAME[f"uint{nbits}"], int(np.prod(shape)))].reshape(shape)
    indices, lut = (decode(operation.inputs[key].arguments[0].value, package) for key in ("indices", "lut"))
    groups = lut.shape[:-2]
    axis = int(np.argmax(groups))
    each = np.moveaxis(indices, axis, 0).reshape(groups[axis], -1)  # (group, index)
    dense = np.take_along_axis(lut.reshape(groups[axis], -1), each, axis=1)
    return np.moveaxis(dense.reshape(np.moveaxis(indices, axis, 0).shape), 0, axis)
