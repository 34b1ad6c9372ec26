"""A package with other values in place of some constants, written anew."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mil.package import Package, write_package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import decode
from optimizations.weights.constants import Constant, top_blocks
from optimizations.weights.files import DEFAULT_FILE, WeightFiles
from pipeline.types import QuernError


@dataclass(frozen=True)
class Detached:
    """A constant without its value, what that was, and the weight file that it lay in."""

    constant: Constant
    original: np.ndarray
    file_name: str


# Writes what stands for a constant into the files and turns its operation into what refers to it.
Hold = Callable[[Detached, WeightFiles], None]


def rewritten(
    spec: Model_pb2.Model, package: Package, chosen: Sequence[Constant], hold: Hold, destination: Path
) -> dict[str, int]:
    """Write `spec`, a copy of the package's, with the chosen constants as `hold` has them.

    Returns the size in bytes of the weight files that are referred to, before and after. What nothing refers to is
    left behind.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights.", dir=destination.parent) as folder:
        files = WeightFiles(package, Path(folder))
        detached = [(constant, _detach(constant)) for constant in chosen]
        for value in _values(spec):
            files.move(value)
        for constant, value in detached:
            name = value.blobFileValue.fileName or DEFAULT_FILE
            hold(Detached(constant, _original(constant, value, package), name), files)
        written = files.close()
        write_package(spec, written, destination)
        return {"before": size_bytes(package), "after": sum(path.stat().st_size for path in written.values())}


def size_bytes(package: Package) -> int:
    """Return the size of the weight files that a package's program refers to."""
    names = {value.blobFileValue.fileName for value in _values(package.spec)} - {""}
    return sum(package.blob(name).size_bytes for name in names)


def value_of(constant: Constant, package: Package) -> np.ndarray:
    """Return what a constant holds; raises QuernError where that is not what it declares."""
    return _original(constant, constant.operation.attributes["val"], package)


def _original(constant: Constant, value: MIL_pb2.Value, package: Package) -> np.ndarray:
    original = np.asarray(decode(value, package))
    declared = constant.operation.outputs[0].type.tensorType.dimensions
    shape = tuple(dimension.constant.size for dimension in declared)
    if original.shape != shape:
        raise QuernError(f"weight `{constant.name}`: declared as {shape}, its value is of {original.shape}")
    return original


def _detach(constant: Constant) -> MIL_pb2.Value:
    """Take the value out of a `const` operation and return it."""
    value = MIL_pb2.Value()
    value.CopyFrom(constant.operation.attributes["val"])
    constant.operation.attributes.pop("val")
    return value


def _values(spec: Model_pb2.Model) -> Iterator[MIL_pb2.Value]:
    """Yield every constant of the program that a weight file may hold, in a fixed order."""
    for _, _, block in top_blocks(spec):
        yield from _block_values(block)


def _block_values(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Value]:
    for operation in block.operations:
        for _, value in sorted(operation.attributes.items()):
            yield value
        for _, argument in sorted(operation.inputs.items()):
            yield from (each.value for each in argument.arguments if each.WhichOneof("binding") == "value")
        for nested in operation.blocks:
            yield from _block_values(nested)
