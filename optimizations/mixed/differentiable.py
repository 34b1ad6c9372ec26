"""A program whose weights are inputs: run by the interpreter, so that torch differentiates it by them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from mil.arithmetic import arithmetic, held, released
from mil.bound import BoundFunction
from mil.errors import MilError
from mil.execute import Walk, steps_of
from mil.interface import accept
from mil.package import Package
from mil.program import Program
from mil.schema import Model_pb2
from mil.values import specialization
from pipeline.types import Arrays

_PRECISION = "float32"
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Differentiable:
    """A function of which some constants, `lifted`, are inputs of the same names; it is run in single precision."""

    program: Program
    function: str
    bound: BoundFunction
    lifted: frozenset[str]

    def entered(self, inputs: Arrays) -> dict[str, torch.Tensor]:
        """Return what a call is entered with, rounded as the function declares its inputs."""
        features, mode = self.program.inputs(self.function), arithmetic(_PRECISION)
        kinds = {feature.name: feature.type.element for feature in features}
        return {name: held(array, mode, kinds[name]) for name, array in accept(features, inputs).items()}

    def run(self, inputs: Tensors, weights: Tensors, listened: Collection[str]) -> dict[str, torch.Tensor]:
        """Return the outputs, and the values called `listened` that are computed on the way, all by name.

        inputs    as `entered` gives them
        weights   of what is lifted: float32, in the shapes of the constants
        """
        walk = Walk(steps_of(self.bound, {**inputs, **weights}, {}))
        heard = {
            result.name: value
            for _, results, values in walk
            for result, value in zip(results, values, strict=True)
            if result.name in listened
        }
        return heard | walk.outputs

    def released(self, values: Tensors) -> Arrays:
        """Return the outputs among these values as arrays, as a runner gives them."""
        mode = arithmetic(_PRECISION)
        kinds = {name: kind.element for name, kind in self.bound.outputs.items() if kind}
        return {name: released(values[name], mode, element) for name, element in kinds.items()}


def differentiable(package: Package, function: str, names: Collection[str]) -> Differentiable:
    """Return a function of a package with those of the named constants as inputs that its outermost block defines.

    Raises MilError for a function that keeps states from call to call.
    """
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    block = specialization(spec.mlProgram.functions[function])
    lifted = [each for each in block.operations if each.type == "const" and each.outputs[0].name in names]
    for each in lifted:
        spec.mlProgram.functions[function].inputs.add().CopyFrom(each.outputs[0])
        block.operations.remove(each)
    bound = Program(Package(spec, package.root)).bound(0, _PRECISION, function)
    if bound.states:
        raise MilError(f"the function `{function}` keeps states from call to call")
    return Differentiable(Program(package), function, bound, frozenset(each.outputs[0].name for each in lifted))
