"""Sound packages, broken on purpose in the ways that checks exist to find."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mil.package import read_package, write_package
from mil.schema import FeatureTypes_pb2, MIL_pb2, Model_pb2
from mil.traverse import block_of

Change = Callable[[np.ndarray], np.ndarray]
HALF = FeatureTypes_pb2.ArrayFeatureType.FLOAT16


def main(spec: Any) -> Any:
    """Return the block of the one function."""
    return block_of(spec.mlProgram.functions["main"])


def edited(source: Path, destination: Path, edit: Callable[[Any], None], weights: Path | None = None) -> Path:
    """Write a package whose model `edit` has changed; `weights` takes the place of its weight file."""
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    edit(spec)
    write_package(
        spec, {"weights/weight.bin": weights or package.blob_path("@model_path/weights/weight.bin")}, destination
    )
    return destination


def edited_without_weights(source: Path, destination: Path, edit: Callable[[Any], None]) -> Path:
    """Write a package that has no weight file, and whose model `edit` has changed."""
    spec = read_package(source).spec
    edit(spec)
    write_package(spec, {}, destination)
    return destination


def reweighted(source: Path, destination: Path, changes: Mapping[str, Change]) -> Path:
    """Write a package in which the constants of these names, or the palettes of weights, hold other numbers."""
    package = read_package(source)
    blob = package.blob_path("@model_path/weights/weight.bin")
    content = bytearray(blob.read_bytes())
    for operation in main(package.spec).operations:
        for change in (changes[output.name] for output in operation.outputs if output.name in changes):
            value = operation.attributes["lut" if operation.type == "constexpr_lut_to_dense" else "val"]
            entry = package.blob(value.blobFileValue.fileName).entry(value.blobFileValue.offset)
            shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
            place = slice(entry.data_offset, entry.data_offset + entry.size_bytes)
            array = np.frombuffer(bytes(content[place]), entry.element_type.numpy).reshape(shape)
            content[place] = np.ascontiguousarray(change(array), array.dtype).tobytes()
    with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
        weights = Path(folder) / "weight.bin"
        weights.write_bytes(content)
        return edited(source, destination, lambda spec: None, weights)


def inputs_of(source: Path, kind: str, names: tuple[str, ...]) -> list[str]:
    """Return which values the first operation of a type reads as these inputs."""
    operation = next(each for each in main(read_package(source).spec).operations if each.type == kind)
    return [operation.inputs[name].arguments[0].name for name in names]


def aliased(spec: Any) -> None:
    """Return an input as an output, as a head does that passes an embedding through."""
    main(spec).outputs.append(spec.description.input[0].name)
    spec.description.output.add().CopyFrom(spec.description.input[0])


def renamed(spec: Any) -> None:
    """Call the input `waveform`."""
    before = spec.description.input[0].name
    spec.description.input[0].name = spec.mlProgram.functions["main"].inputs[0].name = "waveform"
    for operation in main(spec).operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == before:
                    binding.name = "waveform"


def half_outputs(spec: Any) -> None:
    """Declare the output in half precision: its last cast goes to fp16."""
    operations = {output.name: operation for operation in main(spec).operations for output in operation.outputs}
    cast = operations[main(spec).outputs[0]]
    target = operations[cast.inputs["dtype"].arguments[0].name]
    target.attributes["val"].immediateValue.tensor.strings.values[:] = ["fp16"]
    cast.outputs[0].type.tensorType.dataType = MIL_pb2.FLOAT16
    spec.description.output[0].type.multiArrayType.dataType = HALF


def half_inputs(spec: Any) -> None:
    """Declare the input in half precision."""
    spec.mlProgram.functions["main"].inputs[0].type.tensorType.dataType = MIL_pb2.FLOAT16
    spec.description.input[0].type.multiArrayType.dataType = HALF


def softmaxed(spec: Any) -> None:
    """Put a softmax over the last axis behind the output, as if it were scores."""
    block = main(spec)
    published = block.outputs[0]
    last = next(operation for operation in block.operations if operation.outputs[0].name == published)
    last.outputs[0].name = "scores"
    axis = block.operations.add(type="const")
    axis.outputs.add(name="softmax_axis").type.tensorType.dataType = MIL_pb2.INT32
    axis.attributes["val"].type.tensorType.dataType = MIL_pb2.INT32
    axis.attributes["val"].immediateValue.tensor.ints.values.append(-1)
    softmax = block.operations.add(type="softmax")
    softmax.inputs["x"].arguments.add(name="scores")
    softmax.inputs["axis"].arguments.add(name="softmax_axis")
    softmax.outputs.add().CopyFrom(last.outputs[0])
    softmax.outputs[0].name = published


def with_relu(spec: Any) -> None:
    """Cut off what leaky ReLUs let through."""
    for operation in main(spec).operations:
        if operation.type == "leaky_relu":
            operation.type = "relu"
            del operation.inputs["alpha"]


def shuffled(array: np.ndarray) -> np.ndarray:
    """Return the numbers of a weight in another order."""
    return np.random.default_rng(0).permutation(array.reshape(-1)).reshape(array.shape)


def gates_swapped(array: np.ndarray) -> np.ndarray:
    """Return the rows of an LSTM's weight with the last two gates in the order that PyTorch has them in, not MIL."""
    first, second, third, fourth = np.split(array, 4)
    return np.concatenate([first, second, fourth, third])
