"""Several programs as the functions of one model, over one weight file in which equal constants lie once.

Core ML takes models of several functions from iOS 18 on. Functions of older operation sets are raised to that set as
coremltools raises them: their operations mean the same there, save `constexpr_lut_to_dense`, whose indices became an
input of their own element type.
"""

import hashlib
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mil.blob import BlobWriter
from mil.errors import MilError
from mil.package import MODEL_PATH, Package, read_package, write_package
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import block_of, operations, values
from mil.types import BY_NAME, element_type
from mil.values import decode

OPSET = "CoreML8"
SPECIFICATION = 9
_WEIGHTS = "weights/weight.bin"


def merge(packages: Mapping[str, Path], default: str, destination: Path) -> None:
    """Write one package whose functions are the programs of several, under the names they are given here.

    packages   name of the function → package of one function
    default    the function that is meant where none is named

    What their metadata have in common is the new model's; what differs stands there as "<function>.<key>".
    Raises MilError for a model that is no ML program of one function, and for a default that is none of them.
    """
    if default not in packages:
        raise MilError(f"default function {default!r}: expected one of {', '.join(packages) or 'none'}")
    sources = {name: _of_one_function(path) for name, path in packages.items()}
    merged = Model_pb2.Model(specificationVersion=SPECIFICATION)
    merged.mlProgram.version = 1
    merged.description.defaultFunctionName = default
    _describe(merged, sources)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".merge.", dir=destination.parent) as folder:
        path = Path(folder) / "weight.bin"
        with BlobWriter(path) as writer:
            shared = _SharedWeights(writer)
            for name, source in sources.items():
                _add_function(merged.mlProgram, name, source, shared)
        write_package(merged, {_WEIGHTS: path}, destination)


def _of_one_function(path: Path) -> Package:
    package = read_package(path)
    if package.spec.WhichOneof("Type") != "mlProgram" or len(package.spec.mlProgram.functions) != 1:
        raise MilError(f"{path}: expected an ML program of one function")
    return package


def _describe(merged: Model_pb2.Model, sources: Mapping[str, Package]) -> None:
    strings = {name: dict(source.spec.description.metadata.userDefined) for name, source in sources.items()}
    for name, source in sources.items():
        described = source.spec.description
        merged.description.functions.add(name=name, input=described.input, output=described.output)
        for key, value in strings[name].items():
            common = all(other.get(key) == value for other in strings.values())
            merged.description.metadata.userDefined[key if common else f"{name}.{key}"] = value


class _SharedWeights:
    """The weight file in the making: an entry that is there already is not written again."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._offsets: dict[tuple[str, int, bytes], int] = {}

    def move(self, value: MIL_pb2.Value, package: Package) -> None:
        """Let a constant refer to its entry in this file; its declared type decides what the bytes are taken for."""
        blob = package.blob(value.blobFileValue.fileName)
        entry = blob.entry(value.blobFileValue.offset)
        stored = blob.stored(entry)
        declared = element_type(value.type.tensorType.dataType)
        count = math.prod(dimension.constant.size for dimension in value.type.tensorType.dimensions)
        identity = (declared.name, count, hashlib.sha256(stored.data).digest())
        if identity not in self._offsets:
            self._offsets[identity] = self._writer.append_stored(stored, declared, count)
        value.blobFileValue.fileName = f"{MODEL_PATH}/{_WEIGHTS}"
        value.blobFileValue.offset = self._offsets[identity]
        blob.release(entry)


def _add_function(program: MIL_pb2.Program, name: str, source: Package, shared: _SharedWeights) -> None:
    (function,) = source.spec.mlProgram.functions.values()
    added = program.functions[name]
    added.inputs.extend(function.inputs)
    added.opset = OPSET
    added.block_specializations[OPSET].CopyFrom(block_of(function))
    for operation in operations(block_of(added)):
        if function.opset != OPSET and operation.type == "constexpr_lut_to_dense":
            _raise_palette(operation, source)
        for _, value in values(operation):
            if value.WhichOneof("value") == "blobFileValue":
                shared.move(value, source)


def _raise_palette(operation: MIL_pb2.Operation, source: Package) -> None:
    """Turn indices packed into bytes, and the shape beside them, into indices of the palette's width in that shape."""
    shape = [int(size) for size in decode(operation.attributes["shape"], source)]
    entries = operation.attributes["lut"].type.tensorType.dimensions[0].constant.size
    dimensions = {"indices": shape, "lut": [1] * len(shape) + [entries, 1]}
    for name, sizes in dimensions.items():
        raised = operation.inputs[name].arguments.add().value
        raised.CopyFrom(operation.attributes[name])
        raised.type.tensorType.rank = len(sizes)
        del raised.type.tensorType.dimensions[:]
        for size in sizes:
            raised.type.tensorType.dimensions.add().constant.size = size
        del operation.attributes[name]
    operation.inputs["indices"].arguments[0].value.type.tensorType.dataType = BY_NAME[
        f"uint{entries.bit_length() - 1}"
    ].proto
    del operation.attributes["shape"]
