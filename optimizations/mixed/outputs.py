"""What a program with other weights loses against the one it came from, on real inputs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mil.package import Package
from mil.program import Program
from mil.schema import Model_pb2
from optimizations.weights.constants import constants, top_blocks
from pipeline.types import Arrays, Example, Runner, Tensor, called

# Runs a whole example on a runner, by as many calls as it takes.
Run = Callable[[Runner, Arrays], Arrays]

# Probabilities nearer to 0 or 1 are counted as being so far from it.
LEAST_PROBABILITY = 1e-6
# The share of examples that are typical.
_TYPICAL = 0.75
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Loss:
    """Over all examples; agreement is None where no output is a decision.

    divergence   summed over outputs. Of log probabilities: mean over frames of the Kullback-Leibler divergence, in nat;
                 of probabilities of independent events: its mean over these; of embeddings: mean of 1 − cosine; of
                 other outputs: mean squared difference over mean square
    typical      the mean of the divergence of each example, over the three quarters of them that lose least: an example
                 that falls over as a whole loses a thousand times as much as others, whatever little caused it
    argmax       share of frames whose most probable class is the same, or of events that are as before on their side
                 of ½; `worst`: in the example where it is lowest
    """

    divergence: float
    typical: float
    argmax: float | None
    worst: float | None


def package_with(package: Package, values: Mapping[str, np.ndarray]) -> Package:
    """Return a package with other values for some constants, by "function/name"."""
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    for function, _, block in top_blocks(spec):
        for constant in constants(block):
            new = values.get(f"{function}/{constant.name}")
            if new is not None:
                _fill(constant.operation.attributes["val"], new)
    return Package(spec, package.root)


def _fill(value: object, new: np.ndarray) -> None:
    assert hasattr(value, "immediateValue")
    tensor = value.immediateValue.tensor
    if new.dtype == np.float32:
        tensor.floats.values[:] = new.reshape(-1).tolist()
    else:
        tensor.bytes.values = np.ascontiguousarray(new).tobytes()


def run(program: Program, function: str, examples: Iterable[Example], whole: Run = called) -> list[Arrays]:
    """Return the outputs for each example, in single precision."""

    def once(inputs: Arrays) -> Arrays:
        return program.run(inputs, "float32", function)

    return [whole(once, example.inputs) for example in examples]


def loss(reference: Sequence[Arrays], found: Sequence[Arrays], outputs: Sequence[Tensor]) -> Loss:
    """Return what `found` loses against `reference`; both hold outputs of the same examples, all or some of them.

    Whole numbers are no loss: they count what is filled.
    """
    compared = [each for each in outputs if each.dtype.startswith("float") and each.name in reference[0]]
    pairs = {each.name: _pairs(each.name, reference, found) for each in compared}
    divergence = math.fsum(_divergence(each, pairs[each.name]) for each in compared)
    typical = _typical(
        [math.fsum(_divergence(each, [pairs[each.name][i]]) for each in compared) for i in range(len(reference))]
    )
    same = next((_same(each, pairs[each.name]) for each in compared if _decides(each)), None)
    if same is None:
        return Loss(divergence, typical, None, None)
    agreeing, all_of_them = sum(int(each.sum()) for each in same), sum(each.size for each in same)
    return Loss(divergence, typical, agreeing / all_of_them, min(float(each.mean()) for each in same))


def _typical(losses: Sequence[float]) -> float:
    least = sorted(losses)[: math.ceil(_TYPICAL * len(losses))]
    return math.fsum(least) / len(least)


_Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def _pairs(name: str, reference: Sequence[Arrays], found: Sequence[Arrays]) -> _Pairs:
    both = zip(reference, found, strict=True)
    return [(a[name].astype(np.float64), b[name].astype(np.float64)) for a, b in both]


def _decides(tensor: Tensor) -> bool:
    return "class" in tensor.axes or tensor.unit == "probability"


def _same(tensor: Tensor, pairs: _Pairs) -> list[np.ndarray]:
    if "class" in tensor.axes:
        return [a.argmax(-1) == b.argmax(-1) for a, b in pairs]
    return [(a > 0.5) == (b > 0.5) for a, b in pairs]


def _divergence(tensor: Tensor, pairs: _Pairs) -> float:
    if tensor.unit == "log probability":
        return _mean([(np.exp(a) * (a - b)).sum(-1) for a, b in pairs])
    if tensor.unit == "probability" and "class" not in tensor.axes:
        return _mean([_bernoulli(a, b) for a, b in pairs])
    if tensor.unit == "embedding":
        return _mean([1 - _cosine(a, b) for a, b in pairs])
    squares = sum(float((a * a).sum()) for a, _ in pairs)
    return sum(float(((a - b) ** 2).sum()) for a, b in pairs) / max(squares, _TINY)


def _bernoulli(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the divergence of each event, whose probability is `a` in truth."""
    a, b = (np.clip(each, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) for each in (a, b))
    return a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each two vectors; 1 for two that are zero."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    equal = ~(a.any(-1) | b.any(-1))
    return np.where(equal, 1.0, (a * b).sum(-1) / np.maximum(lengths, _TINY))


def _mean(parts: Sequence[np.ndarray]) -> float:
    return float(sum(part.sum() for part in parts)) / max(sum(part.size for part in parts), 1)
