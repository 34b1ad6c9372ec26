"""What a program with other weights loses against the one it came from, on real inputs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mil.package import Package
from mil.program import Program
from mil.schema import Model_pb2
from optimizations.weights.constants import constants, top_blocks
from pipeline.types import Arrays, Example, Tensor


@dataclass(frozen=True)
class Loss:
    """Over all examples; agreement is None where no output has a class axis.

    divergence   of log probabilities: mean over frames of the Kullback-Leibler divergence, in nat; of other outputs:
                 mean squared difference over mean square; summed over outputs
    argmax       share of frames whose most probable class is the same; `worst`: in the example where it is lowest
    """

    divergence: float
    argmax: float | None
    worst: float | None


def program_with(package: Package, values: Mapping[str, np.ndarray]) -> Program:
    """Return a package's program with other values for some constants, by "function/name"."""
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    for function, _, block in top_blocks(spec):
        for constant in constants(block):
            new = values.get(f"{function}/{constant.name}")
            if new is not None:
                _fill(constant.operation.attributes["val"], new)
    return Program(Package(spec, package.root))


def _fill(value: object, new: np.ndarray) -> None:
    assert hasattr(value, "immediateValue")
    tensor = value.immediateValue.tensor
    if new.dtype == np.float32:
        tensor.floats.values[:] = new.reshape(-1).tolist()
    else:
        tensor.bytes.values = np.ascontiguousarray(new).tobytes()


def run(program: Program, function: str, examples: Iterable[Example]) -> list[Arrays]:
    """Return the outputs for each example, in single precision."""
    return [program.run(example.inputs, "float32", function) for example in examples]


def loss(reference: Sequence[Arrays], found: Sequence[Arrays], outputs: Sequence[Tensor]) -> Loss:
    """Return what `found` loses against `reference`; both hold the outputs of the same examples."""
    divergence = math.fsum(_divergence(tensor, reference, found) for tensor in outputs)
    classes = next((tensor.name for tensor in outputs if "class" in tensor.axes), None)
    if classes is None:
        return Loss(divergence, None, None)
    same = [(a[classes].argmax(-1) == b[classes].argmax(-1)) for a, b in zip(reference, found, strict=True)]
    frames = sum(each.size for each in same)
    return Loss(divergence, sum(int(each.sum()) for each in same) / frames, min(float(each.mean()) for each in same))


def _divergence(tensor: Tensor, reference: Sequence[Arrays], found: Sequence[Arrays]) -> float:
    pairs = [
        (a[tensor.name].astype(np.float64), b[tensor.name].astype(np.float64))
        for a, b in zip(reference, found, strict=True)
    ]
    if tensor.unit == "log probability":
        frames = sum(a.size // a.shape[-1] for a, _ in pairs)
        return float(sum((np.exp(a) * (a - b)).sum() for a, b in pairs)) / frames
    squares = sum(float((a * a).sum()) for a, _ in pairs)
    return sum(float(((a - b) ** 2).sum()) for a, b in pairs) / max(squares, float(np.finfo(np.float64).tiny))
