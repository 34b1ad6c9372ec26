"""`Program.predict`: takes and gives what `coremltools.models.MLModel.predict` does.

So that a script written for a Mac runs here with `mil.load(path)` in place of `MLModel(path)`. Arithmetic is
`declared`. Image inputs may be PIL images; image outputs are arrays, as the program makes them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.errors import MilError
from mil.interface import Feature

if TYPE_CHECKING:
    from mil.program import Program, ProgramState


def predict(program: "Program", data: Any, state: "ProgramState | None" = None) -> Any:
    """Return the outputs by name for a dictionary of inputs, or a list of them for a list.

    Raises MilError where the program has states and none is given: `make_state` makes one.
    """
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [_one(program, item, state) for item in data]
    return _one(program, data, state)


def _one(program: "Program", data: Any, state: "ProgramState | None") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise MilError(f"expected inputs by name in a dictionary, found {type(data).__name__}")
    if state is None and program.states():
        raise MilError("the program has states: pass state=program.make_state(), the same from call to call")
    features = {feature.name: feature for feature in program.inputs()}
    inputs = {name: _array(features.get(name), value) for name, value in data.items()}
    outputs = program.run(inputs, state=state)
    return outputs | {name: int(outputs[name]) for name in _integers(program) if name in outputs}


def _integers(program: "Program") -> set[str]:
    """Return the outputs that are described as an integer and not as an array: labels of a classifier."""
    described = [output for stage in program.stages for output in stage.described(program.function_name).output]
    return {output.name for output in described if output.type.WhichOneof("Type") == "int64Type"}


def _array(feature: Feature | None, value: Any) -> Any:
    if feature is None:
        return value
    if feature.image is not None and hasattr(value, "convert"):
        return _pixels(feature, value)
    # Core ML gives a scalar that the program wants as a tensor of one element its shape.
    if isinstance(value, int | float) and feature.type.count == 1:
        return np.full(feature.type.known_shape(), value)
    return value


def _pixels(feature: Feature, image: Any) -> np.ndarray:
    """Return a PIL image as (1, channel, height, width), 0 to 255, channels in the declared order."""
    gray = feature.image == "GRAYSCALE"
    mode = "F" if gray and image.mode == "F" else "L" if gray else "RGB"  # F is wider than 8 bits
    pixels = np.asarray(image.convert(mode), np.float32)
    channels = pixels[None] if gray else pixels.transpose(2, 0, 1)
    return channels[None, ::-1] if feature.image == "BGR" else channels[None]
