"""The weight files of a package in the making."""

from pathlib import Path

import numpy as np

from mil.blob import BlobWriter
from mil.package import MODEL_PATH, Package
from mil.packing import pack
from mil.schema import MIL_pb2
from mil.types import BY_NAME, ElementType

DEFAULT_FILE = f"{MODEL_PATH}/weights/weight.bin"
# coremltools writes constants of fewer elements into the program itself.
SMALLEST_IN_FILE = 10
_ELEMENTS = {
    np.dtype(np.float16): BY_NAME["fp16"],
    np.dtype(np.float32): BY_NAME["fp32"],
    np.dtype(np.uint32): BY_NAME["uint32"],
    np.dtype(np.int8): BY_NAME["int8"],
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
        """Return the values, fp16, fp32, uint32 or int8, as a constant; large ones go into the file."""
        element = _ELEMENTS[values.dtype]
        if values.size >= SMALLEST_IN_FILE:
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
